"""The wing's stop on the tour, on the small data that is there without Pillow."""

import numpy as np
import pytest

import linalg_ml.streaming
from linalg_ml.streaming import _tour


@pytest.fixture(scope="module")
def stop():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sklearn.datasets.load_sample_image", _no_pillow)
        return _tour.stop()


def _no_pillow(name):
    raise ImportError("Pillow")


def test_the_claim_covers_the_truth(stop):
    assert 0 < stop.true_error <= stop.claimed_error < 0.1
    assert stop.bytes_after < stop.bytes_before / 10
    assert "digits" in stop.data


def test_the_code_runs_as_it_is_shown(stop):
    assert stop.code.count("\n") < 5
    rows = np.random.default_rng(0).standard_normal((2000, 300)) * np.append(5.0, np.ones(299))
    names = {"blocks": np.array_split(rows, 7), "linalg_ml": linalg_ml}
    exec(stop.code, names)
    assert 0 < names["claim"] < 0.1
    assert names["result"].vector[0] > 0.99


def test_errors_are_those_of_the_patches_seen():
    rows = np.random.default_rng(0).standard_normal((3500, 300)) * np.append(5.0, np.ones(299))
    run = _tour._run(rows)
    assert run.n_seen.tolist() == [1500, 3000, 3500]
    centred = rows - rows.mean(axis=0)
    v = np.linalg.svd(centred, full_matrices=False)[2][0]
    assert abs(v @ run.exact[-1]) == pytest.approx(1, abs=1e-10)
    assert run.usual_true[-1] == pytest.approx(1 - (run.usual @ v) ** 2, rel=1e-6)
    assert (run.true <= run.claimed).all()


def test_the_picture_can_be_drawn(stop):
    figure = pytest.importorskip("matplotlib.figure")
    drawn = figure.Figure()
    stop.picture(drawn)
    assert len(drawn.get_axes()) == 5
