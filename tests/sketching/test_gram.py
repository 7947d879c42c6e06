"""The error of a sketched Gram matrix, as estimated and as it is."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import sparse

from linalg_ml.sketching import SRHT, gram_error


@pytest.fixture(scope="module")
def A():
    rng = np.random.default_rng(0)
    return rng.standard_normal((2000, 12)) * 0.5 ** np.arange(12)


def true_error(A, B):
    return np.linalg.norm(B.conj().T @ B - A.conj().T @ A)


def test_bounds_hold_as_often_as_they_say(A):
    high = low = 0
    ratios = []
    for seed in range(300):
        B = SRHT(2000, 100, rng=seed) @ A
        result = gram_error(A, B, rng=seed)  # the same integer: the probes' stream is another one
        high += true_error(A, B) <= result.upper
        low += true_error(A, B) >= result.lower
        ratios.append((result.error / true_error(A, B)) ** 2)
    assert min(high, low) >= 0.95 * 300 - 4 * np.sqrt(300 * 0.95 * 0.05)
    assert abs(np.mean(ratios) - 1) < 4 * np.std(ratios) / np.sqrt(300)


def test_relative_error(A):
    B = SRHT(2000, 200, rng=0) @ A
    result = gram_error(A, B, n_probes=2000, confidence=0.99, rng=1)
    assert_allclose(result.error, true_error(A, B), rtol=0.1)
    assert_allclose(result.relative_error, true_error(A, B) / np.linalg.norm(A.T @ A), rtol=0.2)
    assert result.confidence == 0.99


def test_every_kind_of_rows(A, xp):
    B = SRHT(2000, 200, rng=0) @ A
    expected = gram_error(A, B, rng=1).error
    assert_allclose(gram_error(xp.asarray(A), xp.asarray(B), rng=1).error, expected, rtol=1e-8)
    for kind in (sparse.csr_array(A), [A[:100], A[100:]], np.asfortranarray(A)):
        assert_allclose(gram_error(kind, B, rng=1).error, expected, rtol=1e-8)
    Z = A + 1j * A[:, ::-1]
    C = SRHT(2000, 200, rng=0) @ Z
    for kind in (xp.asarray(Z), sparse.csr_array(Z)):
        SZ = C if sparse.issparse(kind) else xp.asarray(C)
        assert_allclose(gram_error(kind, SZ, n_probes=1000, rng=1).error, true_error(Z, C), rtol=0.15)


def test_dask(A, dask_scheduler):
    array = pytest.importorskip("dask.array")
    S = SRHT(2000, 200, rng=0)
    lazy = array.from_array(A, chunks=(300, 12))
    assert_allclose(gram_error(lazy, S @ lazy, rng=1).error, gram_error(A, S @ A, rng=1).error, rtol=1e-8)


def test_other_precision_and_library(A):
    torch = pytest.importorskip("torch")
    B = SRHT(2000, 200, rng=0) @ A
    narrow = gram_error(torch.asarray(A.astype(np.float32)), torch.asarray(B), rng=1)
    assert_allclose(narrow.error, gram_error(A, B, rng=1).error, rtol=1e-4)
    with pytest.raises(ValueError, match="A and SA must come from one array library"):
        gram_error(sparse.csr_array(A), torch.asarray(B))


def test_exact_and_zero(A):
    result = gram_error(A, A, rng=0)
    assert result.relative_error < 1e-14
    result = gram_error(np.zeros((5, 2)), np.zeros((1, 2)), rng=0)
    assert (result.error, result.upper, result.relative_error) == (0, 0, 0)
    assert gram_error(np.zeros((5, 2)), np.ones((1, 2)), rng=0).relative_error == 1


def test_bad_input(A):
    for args, options, message in (
        ((A, A[:, :3]), {}, "A must be 2-d with the 3 columns of SA"),
        ((A[:, 0], A), {}, "A must be 2-d"),
        ((A, A[:, 0]), {}, "SA must be 2-d"),
        (([A[:, :3]], A), {}, "A must have the 12 columns"),
        ((A, A), {"n_probes": 0}, "n_probes must be"),
        ((A, A), {"confidence": 1.0}, "confidence must be"),
        ((A, np.full((3, 12), np.nan)), {}, "SA must be finite"),
        ((np.where(A[5, 5] == A, np.nan, A), A), {}, "A must be finite, got NaN or infinity in row 5"),
    ):
        with pytest.raises(ValueError, match=message):
            gram_error(*args, **options)
