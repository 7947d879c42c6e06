"""Rows that are Kronecker products, against the matrix that they stand for."""

import numpy as np
import pytest
from array_api_compat import array_namespace
from matrices import gaussian, ill_conditioned
from numpy.testing import assert_allclose, assert_array_equal
from scipy.sparse.linalg import aslinearoperator

from linalg_ml._core.arrays import to_numpy
from linalg_ml.sketching import SRHT, CountSketch, KroneckerRows, SparseSign, lstsq

SHAPES = {"all": ((23, 3), (17, 4)), "matched": ((40, 3), (40, 4))}


def close(actual, expected, tol=1e-12):
    actual = to_numpy(actual)
    assert actual.shape == expected.shape
    assert_allclose(actual, expected, rtol=0, atol=tol * max(np.abs(expected).max(), 1e-300))


def dense(A1, A2, pairing):
    return np.kron(A1, A2) if pairing == "all" else np.stack([np.kron(a, b) for a, b in zip(A1, A2, strict=True)])


def factors(pairing, dtype=np.float64, shapes=None):
    return [gaussian(*shape, seed=seed, dtype=dtype) for seed, shape in enumerate(shapes or SHAPES[pairing])]


@pytest.fixture(params=SHAPES)
def pairing(request):
    return request.param


@pytest.mark.parametrize("dtype", [np.float64, np.complex128])
def test_is_the_matrix(pairing, dtype, xp):
    parts = factors(pairing, dtype)
    D = dense(*parts, pairing)
    K = KroneckerRows(*(xp.asarray(part) for part in parts), pairing=pairing)
    assert K.shape == D.shape
    assert K.dtype == dtype
    assert K.nbytes == sum(part.nbytes for part in parts)
    assert pairing in repr(K)
    close(K.to_dense(), D)
    close(K.rows(5, 30), D[5:30])
    close(K.rows(0, 1), D[:1])
    for shape in ((12,), (12, 1), (12, 5)):
        X = np.reshape(gaussian(12, shape[-1] if len(shape) > 1 else 1, seed=3, dtype=dtype), shape)
        Y = K @ xp.asarray(X)
        assert array_namespace(Y) is xp
        close(Y, D @ X)
        close(K.H @ Y, D.conj().T @ D @ X)
        if dtype == np.float64:
            close(K.T @ Y, D.T @ D @ X)


def test_is_a_linear_operator(pairing):
    parts = factors(pairing, np.complex128)
    D, K = dense(*parts, pairing), aslinearoperator(KroneckerRows(*parts, pairing=pairing))
    X = gaussian(12, 2, seed=3)
    close(K.matvec(X[:, 0]), D @ X[:, 0])
    close(K.matmat(X), D @ X)
    close(K.rmatvec(D[:, 2]), D.conj().T @ D[:, 2])
    close(K.rmatmat(D), D.conj().T @ D)


def test_dtypes(pairing):
    A1, A2 = factors(pairing)
    assert KroneckerRows(A1.astype(np.float32), A2.astype(np.float32), pairing).to_dense().dtype == np.float32
    assert KroneckerRows(A1.astype(np.float32), A2, pairing).dtype == np.float64
    assert KroneckerRows(A1, A2.astype(np.complex64), pairing).dtype == np.complex128
    assert KroneckerRows((10 * A1).astype(int), [[True]] * A1.shape[0], pairing).to_dense().dtype == np.float64


@pytest.mark.parametrize("kind", [SRHT, SparseSign, CountSketch])
def test_is_sketched_block_by_block(pairing, kind):
    shapes = {"all": ((300, 30), (400, 25)), "matched": ((3000, 30), (3000, 25))}[pairing]
    K = KroneckerRows(*factors(pairing, shapes=shapes), pairing=pairing)  # several blocks of 4 MB
    S = kind(K.shape[0], 50, rng=0)
    if pairing == "all":
        x = gaussian(750, 1)[:, 0]
        close((S @ K) @ x, S @ (K @ x), 1e-10)
    else:
        close(S @ K, S @ K.to_dense())


# --- least squares ------------------------------------------------------------------------------------


@pytest.mark.parametrize("a_type", [np.float64, np.complex128])
@pytest.mark.parametrize("b_type", [np.float64, np.complex128])
@pytest.mark.parametrize("damp", [0, 0.1, 10])
def test_least_squares(pairing, a_type, b_type, damp):
    K = KroneckerRows(*factors(pairing, a_type), pairing=pairing)
    D = K.to_dense()
    B = gaussian(K.shape[0], 3, seed=5, dtype=b_type)
    result = lstsq(K, B, damp=damp, rng=0)
    expected = np.linalg.lstsq(np.concatenate([D, damp * np.eye(12)]), np.concatenate([B, np.zeros((12, 3))]))[0]
    close(result.x, expected)
    close(result.residual_norm, np.linalg.norm(B - D @ expected, axis=0))
    assert result.rank == 12
    assert (result.backward_error < 2e-16).all()
    values = np.hypot(np.linalg.svd(D, compute_uv=False), damp)
    assert_allclose(result.singular_values, values, rtol=1e-10)
    x, residues, rank, _ = lstsq(K, B[:, 0], damp=damp, rng=0)
    close(x, expected[:, 0])
    assert_allclose(residues, result.residual_norm[0] ** 2)
    assert rank == 12


def test_least_squares_in_namespaces(pairing, xp):
    A1, A2 = factors(pairing)
    b = gaussian(dense(A1, A2, pairing).shape[0], 1)[:, 0]
    result = lstsq(KroneckerRows(xp.asarray(A1), xp.asarray(A2), pairing), xp.asarray(b), rng=0)
    assert array_namespace(result.x) is xp
    close(result.x, np.linalg.lstsq(dense(A1, A2, pairing), b)[0])
    narrow = [xp.astype(xp.asarray(part), xp.float32) for part in (A1, A2, b)]
    result = lstsq(KroneckerRows(*narrow[:2], pairing), narrow[2], rng=0)
    assert result.x.dtype == xp.float32
    close(result.x, np.linalg.lstsq(dense(A1, A2, pairing), b)[0], 1e-5)


@pytest.mark.parametrize("damp", [0, 0.3])
@pytest.mark.parametrize("columns", [[0, 1, 1], [0, 0, 0]])
def test_rank_deficient(pairing, columns, damp):
    A1, A2 = factors(pairing)
    A1 = A1[:, columns]
    K = KroneckerRows(A1, A2, pairing=pairing)
    D, b = K.to_dense(), gaussian(K.shape[0], 1, seed=4)[:, 0]
    result = lstsq(K, b, damp=damp, rng=0)
    U, s, Vh = np.linalg.svd(D, full_matrices=False)
    s[s < 1e-10] = 0
    filtered = np.divide(s, s**2 + damp**2, out=np.zeros(12), where=s > 0)
    close(result.x, Vh.T @ (filtered * (U.T @ b)), 1e-10)
    assert result.rank == (12 if damp else np.sum(s > 0))


def test_fewer_rows_than_columns_in_one_factor():
    K = KroneckerRows(gaussian(3, 5), gaussian(100, 4, seed=1))
    b = gaussian(300, 1, seed=2)[:, 0]
    result = lstsq(K, b)
    assert result.rank == 12
    close(result.x, np.linalg.lstsq(K.to_dense(), b)[0], 1e-10)


def test_wide_and_matched():
    K = KroneckerRows(gaussian(10, 5), gaussian(10, 4, seed=1), pairing="matched")
    close(lstsq(K, np.ones(10)).x, np.linalg.lstsq(K.to_dense(), np.ones(10))[0], 1e-10)


def test_conditions_multiply():
    K = KroneckerRows(ill_conditioned(60, 6, 1e5), ill_conditioned(50, 5, 1e5, seed=3))
    b = K @ np.ones(30) + 1e-3 * gaussian(3000, 1)[:, 0]
    result = lstsq(K, b)
    assert result.rank == 30
    assert_allclose(result.singular_values[0] / result.singular_values[-1], 1e10, rtol=1e-6)
    assert result.backward_error < 2e-16
    assert lstsq(K, b, cond=1e-6).rank == np.sum(result.singular_values > 1e-6 * result.singular_values[0])


@pytest.mark.parametrize("b_scale", [1, 1e-140])
@pytest.mark.parametrize("scale", [1, 1e70, 1e-70])
def test_scale(scale, b_scale):
    A1, A2 = factors("all")
    b = gaussian(391, 1, seed=2)[:, 0]
    result = lstsq(KroneckerRows(A1 * scale, A2 * scale), b * b_scale)
    close(result.x * scale * scale / b_scale, np.linalg.lstsq(np.kron(A1, A2), b)[0])
    assert result.backward_error < 2e-16


def test_nothing_to_fit(pairing):
    K = KroneckerRows(*factors(pairing), pairing=pairing)
    result = lstsq(K, np.zeros(K.shape[0]))
    assert_array_equal(result.x, 0)
    assert result.backward_error == 0
    zero = lstsq(
        KroneckerRows(np.zeros((23, 3)), gaussian(23, 4), pairing=pairing), np.ones(529 if pairing == "all" else 23)
    )
    assert_array_equal(zero.x, 0)
    assert zero.rank == 0


def test_matched_ones_are_formed_block_by_block():
    K = KroneckerRows(gaussian(30_000, 6), gaussian(30_000, 5, seed=1), pairing="matched")
    b = gaussian(30_000, 1, seed=2)[:, 0]
    for method in ("auto", "gram", "sketch", "qr"):
        close(lstsq(K, b, method=method, rng=0).x, np.linalg.lstsq(K.to_dense(), b)[0])


# --- bad input ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("A1", "A2", "options", "error", "message"),
    [
        (np.ones((3, 2)), np.ones((4, 2)), {"pairing": "matched"}, ValueError, "as many rows as each other if matched"),
        (np.ones((3, 2)), np.ones((3, 2)), {"pairing": "pairs"}, ValueError, "pairing must be 'all' or 'matched'"),
        (np.ones(3), np.ones((3, 2)), {}, ValueError, "A1 must be 2-d"),
        (np.ones((3, 2)), np.ones((3, 2, 1)), {}, ValueError, "A2 must be 2-d"),
        (np.ones((3, 2)), np.full((3, 2), np.nan), {}, ValueError, "A2 must be finite, got NaN or infinity in row 0"),
        ("A1", np.ones((3, 2)), {}, TypeError, "A1 must be"),
        (np.ones((3, 0)), np.ones((3, 2)), {}, ValueError, "A1 is empty"),
    ],
)
def test_bad_factors(A1, A2, options, error, message):
    with pytest.raises(error, match=message):
        KroneckerRows(A1, A2, **options)


def test_bad_products(pairing, other_xp):
    K = KroneckerRows(*factors(pairing), pairing=pairing)
    with pytest.raises(ValueError, match="must have 12 rows"):
        K @ np.ones(11)
    with pytest.raises(ValueError, match=f"must have {K.shape[0]} rows"):
        K.H @ np.ones(11)
    with pytest.raises(ValueError, match="A1 and X must come from one array library"):
        K @ other_xp.ones(12)
    with pytest.raises(ValueError, match="A1 and A2 must come from one array library"):
        KroneckerRows(K.factors[0], other_xp.asarray(K.factors[1]), pairing)
    with pytest.raises(ValueError, match="b must have the"):
        lstsq(K, np.ones(7))


def test_too_few_pairs():
    with pytest.raises(ValueError, match="A must have at least as many rows as columns, got KroneckerRows of"):
        lstsq(KroneckerRows(np.ones((2, 3)), np.ones((2, 3))), np.ones(4))


@pytest.mark.parametrize(("factor_scale", "b_scale"), [(1e80, 1.0), (1e-120, 1.0), (1.0, 1e160), (1.0, 1e-170)])
def test_ends_of_the_range(factor_scale, b_scale):
    A1, A2, b = gaussian(30, 4), gaussian(20, 3, seed=1), gaussian(600, 1, seed=2)[:, 0]
    exact = np.linalg.lstsq(np.kron(A1, A2), b)[0]
    result = lstsq(KroneckerRows(A1 * factor_scale, A2 * factor_scale), b * b_scale)
    assert_allclose(result.x * (factor_scale / b_scale) * factor_scale, exact, rtol=1e-10)
    assert result.rank == 12
    assert 0 <= result.backward_error < 1e-15
