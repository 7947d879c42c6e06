"""What theory promises of sketches: subspaces keep their geometry, also where a Hadamard matrix likes them least."""

import numpy as np
import pytest
from scipy.linalg import qr, svdvals

from linalg_ml.sketching import SRHT, SRTT, CountSketch, Gaussian, SparseSign

N, SEEDS = 4096, range(20)


def distortion(SU):
    return float(np.max(np.abs(svdvals(SU) - 1)))


def identity_columns(rows):
    U = np.zeros((N, len(rows)))
    U[rows, np.arange(len(rows))] = 1
    return U


COHERENT = {
    "32 rows from 0": range(32),
    "32 rows from 512": range(512, 544),
    "32 rows from 1000": range(1000, 1032),
    "stride 64": range(0, 2048, 64),
    "512 rows from 0": range(512),
}


def distortions(kind, where, seeds):
    U = identity_columns(list(COHERENT[where]))
    return [distortion(kind(N, 4 * U.shape[1], rng=seed) @ U) for seed in seeds]


@pytest.mark.parametrize("where", COHERENT)
@pytest.mark.parametrize("kind", [SRHT, SparseSign, Gaussian])
def test_coherent_subspaces_are_embedded(kind, where):
    assert max(distortions(kind, where, SEEDS if "32" in where or "64" in where else range(2))) <= 0.66


@pytest.mark.slow
@pytest.mark.parametrize("kind", [SRHT, SparseSign, Gaussian])
def test_many_coherent_columns_are_embedded(kind):
    assert max(distortions(kind, "512 rows from 0", SEEDS)) <= 0.66


def test_countsketch_is_singular_there():
    failures = [distortion >= 0.9 for distortion in distortions(CountSketch, "32 rows from 0", SEEDS)]
    assert sum(failures) > len(SEEDS) / 2


def test_strided_columns_of_a_long_matrix():
    n, m = 2**20, 128
    worst = 0.0
    for seed in SEEDS:
        S = SRHT(n, m, rng=seed)
        columns = np.stack([S.partial(np.ones(1), start) for start in range(0, n, 2**15)], axis=1)
        worst = max(worst, distortion(columns))
    assert worst <= 0.66


@pytest.mark.parametrize("ratio", [2, 4, 8, 16])
@pytest.mark.parametrize("kind", [SRHT, SRTT, Gaussian, SparseSign])
def test_distortion_follows_the_square_root(kind, ratio):
    d = 32
    U = qr(np.random.default_rng(1).standard_normal((N, d)), mode="economic")[0]
    mean = np.mean([distortion(kind(N, ratio * d, rng=seed) @ U) for seed in SEEDS])
    assert abs(mean / ratio**-0.5 - 1) < 0.12


@pytest.mark.parametrize("kind", [SRHT, SRTT, Gaussian])
def test_inner_products_have_the_size_of_the_theorem(kind):
    # |⟨Sg, Sh⟩ - ⟨g, h⟩| = O(1/√m): its root mean square is about √((1 + ⟨g,h⟩²)/m) for unit vectors
    g, h = np.random.default_rng(2).standard_normal((2, N))
    g, h = g / np.linalg.norm(g), h / np.linalg.norm(h)
    m = 256
    X = np.stack([g, h], axis=1)
    errors = []
    for seed in range(200):
        B = kind(N, m, rng=seed) @ X
        errors.append(B[:, 0] @ B[:, 1] - g @ h)
    assert np.sqrt(np.mean(np.square(errors))) < 1.3 / np.sqrt(m)
    assert np.max(np.abs(errors)) < 4.5 / np.sqrt(m)
