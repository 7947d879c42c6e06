"""The wing's stop on the tour."""

import numpy as np
import pytest
from embedding.graphs import scale_free, similarity

import linalg_ml.embedding
from linalg_ml.embedding import _tour, fastrp


@pytest.fixture(scope="module")
def stop():
    return _tour.stop()


def test_the_claim_covers_the_truth(stop):
    assert 0 < stop.true_error <= stop.claimed_error < 0.3
    assert "digits" in stop.data
    assert stop.size == "1797 nodes, 12340 edges"


def test_the_code_runs_as_it_is_shown(stop):
    assert stop.code.count("\n") < 5
    names = {"S": scale_free(300, 4), "linalg_ml": linalg_ml}
    exec(stop.code, names)
    assert 0 < names["claim"] < 1
    assert names["E"].shape == (300, 128)


def test_the_true_error_is_that_of_the_definition():
    S = scale_free(200, 3)
    result = fastrp(S, rng=0)
    E, M = np.asarray(result, float), similarity(S.toarray(), _tour._WEIGHTS, 0.0, 0.0, result.row_norms)
    expected = np.linalg.norm(E @ E.T - M @ M.T) / np.linalg.norm(E) ** 2
    assert _tour._true_error(S, result) == pytest.approx(expected, rel=1e-10)


def test_the_picture_can_be_drawn(stop):
    figure = pytest.importorskip("matplotlib.figure")
    drawn = figure.Figure()
    stop.picture(drawn)
    assert len(drawn.get_axes()) == 2
