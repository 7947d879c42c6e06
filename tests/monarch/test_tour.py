"""The wing's stops on the tour, on the small data that is there without Pillow."""

import numpy as np
import pytest

import linalg_ml.monarch
from linalg_ml.monarch import _tour


@pytest.fixture(scope="module")
def stops():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sklearn.datasets.load_sample_image", _no_pillow)
        patch.setattr(_tour, "timed", lambda call, repeats=1: (call(), 0.0))
        return _tour.stop()


def _no_pillow(name):
    raise ImportError("Pillow")


def test_claims_are_the_truth(stops):
    for stop in stops:
        assert 0 < stop.true_error < 0.5
        assert stop.claimed_error == pytest.approx(stop.true_error, rel=1e-10)
        assert stop.bytes_after < stop.bytes_before
        assert "digits" in stop.data


def test_the_code_runs_as_it_is_shown(stops):
    rng = np.random.default_rng(0)
    for stop in stops:
        assert stop.code.count("\n") < 5
        names = {"A": rng.standard_normal((64, 64)), "X": rng.standard_normal((200, 64)), "linalg_ml": linalg_ml}
        exec(stop.code, names)
        assert names["Y"].shape == (200, 64)
        assert names["claim"] > 0


def test_the_rivals_are_what_they_say():
    A = np.random.default_rng(0).standard_normal((32, 32))
    U, V = _tour._slices_by_svd(A, 4)  # (K, J, p, 1), (K, J, 1, q)
    M = linalg_ml.monarch.project(A, nblocks=4)
    np.testing.assert_allclose((U @ V).transpose(2, 1, 0, 3).reshape(32, 32), M.to_dense(), atol=1e-12)

    X = np.random.default_rng(1).standard_normal((100, 32))
    low_rank = _tour._truncated(A, 3, X)
    best = np.linalg.svd(X @ A.T, compute_uv=False)[3:]
    assert np.linalg.matrix_rank(low_rank) == 3
    assert np.linalg.norm(X @ (A - low_rank).T) == pytest.approx(np.linalg.norm(best))


def test_the_pictures_can_be_drawn(stops):
    figure = pytest.importorskip("matplotlib.figure")
    for stop in stops:
        drawn = figure.Figure()
        stop.picture(drawn)
        assert len(drawn.get_axes()) == 4
