"""The search against separate embeddings."""

import numpy as np
import pytest
from embedding.graphs import blocks, scale_free
from numpy.testing import assert_allclose

from linalg_ml.embedding import fastrp, tune

WEIGHTS = [(0, 0, 1, 1), (0, 1), (0, 0.5, 0, 4)]


@pytest.mark.parametrize("density", ["auto", 1 / 3])
def test_equals_separate_calls(density):
    S, rows, seen = scale_free(400, 4), np.array([5, 0, 77]), []

    def score(E):
        seen.append(E.copy())
        return -len(seen)

    found = tune(S, score, weights=WEIGHTS, normalization=[-0.5, 0.0], rows=rows, density=density, rng=3)
    assert found.n_passes == 2
    assert [set(trial) for trial in found.trials] == [{"weights", "normalization", "score"}] * 6
    assert found.best_score == -1
    assert found.best_params["weights"] == found.trials[0]["weights"]
    for trial, E in zip(found.trials, seen, strict=True):
        options = {"weights": trial["weights"], "normalization": trial["normalization"]}
        expected = fastrp(S, n_components=64, density=found.best_params["density"], rng=3, **options).embedding
        assert_allclose(E, expected[rows], atol=1e-6 * np.abs(expected).max())


def test_finds_what_is_better():
    S, labels = blocks(300, 4, inside=0.1)
    means = np.eye(4)[labels]

    def score(E):
        centres = means.T @ E / means.sum(axis=0)[:, None]
        return np.mean(np.argmax(E @ centres.T, axis=1) == labels)

    found = tune(S, score, rng=0)
    assert len(found.trials) == 30
    assert found.n_passes == 6
    assert found.best_score == max(trial["score"] for trial in found.trials)
    assert score(fastrp(S, rng=0, **found.best_params).embedding) > 0.6


def test_density():
    S = scale_free(100, 3)
    assert tune(S, lambda E: 0.0, normalization=[0], rng=0).best_params["density"] == 0.1
    assert tune(S, lambda E: 0.0, weights=[(1, 1)], normalization=0.0, rng=0).best_params["density"] == 1 / 3


def test_bad_input():
    S = scale_free(100, 3)
    with pytest.raises(TypeError, match="score"):
        tune(S, None)
    with pytest.raises(ValueError, match="NaN"):
        tune(S, lambda E: np.nan, normalization=[0])
    for answer in (None, "good", 1j):
        with pytest.raises(TypeError, match="score must return a number"):
            tune(S, lambda E, answer=answer: answer, normalization=[0])
    with pytest.raises(ValueError, match="candidate"):
        tune(S, lambda E: 0.0, weights=[])
    with pytest.raises(ValueError, match="rows"):
        tune(S, lambda E: 0.0, rows=[100])
    with pytest.raises(ValueError, match="weights"):
        tune(S, lambda E: 0.0, weights=[(0, 0)])
