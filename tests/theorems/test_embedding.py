"""What theory promises of the projection: similarities on average, their variance, the rate in d; over seeds."""

import numpy as np
import pytest
from embedding.graphs import blocks, scale_free, similarity

from linalg_ml.embedding import fastrp

pytestmark = pytest.mark.filterwarnings("ignore:.*rows of zeros")

N, D, SEEDS = 150, 32, 400
GAUSSIAN = 2.9992  # fourth moment of the normal table


def products(S, weights, projection, density, seeds):
    """Return, for each seed, the inner products of the first nodes with all, without normalised powers."""
    options = {"n_components": D, "weights": weights, "projection": projection, "density": density}
    found = (fastrp(S, normalize_powers=False, dtype=np.float64, rng=seed, **options).embedding for seed in seeds)
    return np.array([E[:20] @ E.T for E in found])


@pytest.mark.parametrize(("projection", "density"), [("sparse", 0.1), ("sparse", 1 / 3), ("gaussian", 1 / 3)])
@pytest.mark.parametrize("weights", [(1,), (0, 0, 1, 1)])
def test_inner_products_and_their_variance(weights, projection, density):
    """E ⟨Rᵀu, Rᵀv⟩ = ⟨u, v⟩; the variance is (‖u‖²‖v‖² + ⟨u, v⟩² + (κ - 3) Σ u²v²)/d."""
    S = scale_free(N, 3)
    M = similarity(S.toarray(), weights, 0.0, 0.0, None)
    exact = (M @ M.T)[:20]
    kurtosis = GAUSSIAN if projection == "gaussian" else 1 / density
    energy = np.sum(M**2, axis=1)
    fourth = (M**2 @ (M**2).T)[:20]
    variance = (energy[:20, None] * energy + exact**2 + (kurtosis - 3) * fourth) / D
    found = products(S, weights, projection, density, range(SEEDS))
    # Products of one seed depend on each other, so that the bounds hold for each, by a normal tail of 5 deviations.
    away = (found.mean(axis=0) - exact) / np.sqrt(variance / SEEDS)
    assert np.abs(away).max() < 5.5
    assert 0.75 <= np.median(found.var(axis=0) / variance) <= 1.25  # 0.07 is a deviation of one


@pytest.mark.parametrize("graph", ["blocks", "scale-free"])
def test_error_falls_as_one_over_the_root_of_the_components(graph):
    S = blocks(300, 4, inside=0.1)[0] if graph == "blocks" else scale_free(300, 4)
    errors = {}
    for d in (32, 128, 512):
        of_seeds = []
        for seed in range(5):
            result = fastrp(S, n_components=d, density=1 / 3, dtype=np.float64, rng=seed)
            M = similarity(S.toarray(), (0, 0, 1, 1), 0.0, 0.0, result.row_norms)
            E = result.embedding
            of_seeds.append(np.linalg.norm(E @ E.T - M @ M.T) / np.linalg.norm(E) ** 2)
        errors[d] = np.median(of_seeds)
        assert 0.7 <= errors[d] * np.sqrt(d) <= 1.5  # √(1 + g²) with g ≤ 1, and more where rows are concentrated
    assert 1.4 <= errors[32] / errors[128] <= 2.8
    assert 1.4 <= errors[128] / errors[512] <= 2.8


def test_neighbours_are_kept():
    """Nodes of one block are more alike than others, and the more so for nodes that M says are alike."""
    S, labels = blocks(400, 4, inside=0.1, between=0.01)
    result = fastrp(S, n_components=256, rng=0)
    E = result.embedding / np.linalg.norm(result.embedding, axis=1, keepdims=True)
    M = similarity(S.toarray(), (0, 0, 1, 1), 0.0, 0.0, result.row_norms)
    M /= np.linalg.norm(M, axis=1, keepdims=True)
    apart = ~np.eye(400, dtype=bool)
    found, exact = (E @ E.T)[apart], (M @ M.T)[apart]
    assert np.corrcoef(found, exact)[0, 1] > 0.9
    same = (labels[:, None] == labels)[apart]
    assert found[same].mean() - found[~same].mean() > 0.1
