"""The rank-one kernel against LAPACK on every slice, and on what breaks simpler methods."""

import numpy as np
import pytest
import scipy.fft
import scipy.linalg
from matrices import layouts
from numpy.testing import assert_allclose, assert_array_equal

from linalg_ml._core import threads
from linalg_ml._core.random import Stream, normals
from linalg_ml.monarch._kernels import rank_one

VERSIONS = ["numba", "reference"]
DTYPES = [np.float32, np.float64]


def load(version):
    return rank_one.reference if version == "reference" else rank_one.load(version)


def slices(A, J, K):
    """Return the slices (batch, K, J, p, q), zeros beyond the shape."""
    batch, m, n = A.shape
    p, q = -(-m // J), -(-n // K)
    whole = np.zeros((batch, p * J, q * K), A.dtype)
    whole[:, :m, :n] = A
    return whole.reshape(batch, p, J, K, q).transpose(0, 3, 2, 1, 4)


def products(left, right):
    return left.astype(np.float64).transpose(0, 3, 1, 2)[..., :, None] * right.astype(np.float64)[..., None, :]


def excess(A, nblocks, version="numba", key=0):
    """Return the energy lost beyond the optimum, relative to all of it, of factors judged in float64."""
    left, right, *_, suspect = load(version)(A[None], nblocks, key)
    assert not suspect.any()
    S = slices(A[None].astype(np.float64), *nblocks)
    best = np.sum(S**2) - np.sum(np.linalg.svd(S, compute_uv=False)[..., 0] ** 2)
    return (np.sum((S - products(left, right)) ** 2) - best) / np.sum(S**2)


def relative_error(A, nblocks, version="numba", key=0):
    *_, residual, norm, suspect = load(version)(A[None], nblocks, key)
    assert not suspect.any()
    return np.linalg.norm(residual / norm.max()) / np.linalg.norm(norm / norm.max())


def hold(A, nblocks, version="numba"):
    """Hold all results against LAPACK's."""
    left, right, sigma, gap, residual, norm, suspect = load(version)(A, nblocks, 3)
    S = slices(A.astype(np.float64), *nblocks)
    J, K = nblocks
    p, q = S.shape[-2:]
    assert left.shape == (len(A), J, p, K)
    assert right.shape == (len(A), K, J, q)
    assert left.dtype == right.dtype == A.dtype
    assert not suspect.any()
    s = np.linalg.svd(S, compute_uv=False)
    eps = np.finfo(A.dtype).eps
    size = np.linalg.norm(S, axis=(-2, -1))
    kept = size > 0  # all of a slice may be padding
    assert_allclose(norm, size, rtol=1e-13)
    assert_allclose(sigma, s[..., 0], rtol=50 * eps)
    rest = S - products(left, right)
    assert_allclose(residual, np.linalg.norm(rest, axis=(-2, -1)), rtol=1e-9, atol=1e-15 * size.max())
    lost = (np.sum(rest**2, axis=(-2, -1)) - np.sum(s[..., 1:] ** 2, axis=-1)) / np.where(kept, size, 1) ** 2
    assert np.abs(lost).max() < (1e-10 if eps > 1e-10 else 2e-15)
    second = s[..., 1] if s.shape[-1] > 1 else np.zeros_like(gap)
    true_gap = kept - (second / np.where(kept, s[..., 0], 1)) ** 2
    assert (gap <= 1).all()
    assert_allclose(gap, true_gap, atol=0.05)
    assert (right.max(axis=-1) >= -right.min(axis=-1)).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_random_shapes(dtype):
    rng = np.random.default_rng(0)
    for _ in range(300):
        batch, J, K = rng.integers(1, 4), *rng.integers(1, 7, 2)
        m, n = J * rng.integers(1, 20) - rng.integers(J), K * rng.integers(1, 20) - rng.integers(K)
        hold(rng.standard_normal((batch, m, n)).astype(dtype), (int(J), int(K)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("columns", [1, 2, 15, 16, 17, 32, 33, 47, 48, 64, 65, 96, 97, 128, 129, 200])
def test_every_length_of_rows(columns, dtype):
    """Rows of one to many vectors, tall and wide."""
    rng = np.random.default_rng(columns)
    for rows in (columns, columns + 9):
        A = rng.standard_normal((1, 3 * rows, 2 * columns)).astype(dtype)
        hold(A, (3, 2))
        hold(np.ascontiguousarray(A.transpose(0, 2, 1)), (2, 3))


@pytest.mark.parametrize("version", VERSIONS)
class TestKnownErrors:
    def test_gaussian(self, version):
        A = np.random.default_rng(0).standard_normal((1024, 1024))
        assert_allclose(relative_error(A, (32, 32), version), 0.941218928863666, rtol=0, atol=1e-13)
        assert abs(excess(A.astype(np.float32), (32, 32), version)) < 1e-10

    def test_rectangular(self, version):
        A = np.random.default_rng(1).standard_normal((768, 3072))
        assert_allclose(relative_error(A, (24, 48), version), 0.956618806300857, rtol=0, atol=1e-13)

    def test_padded(self, version):
        A = np.random.default_rng(0).standard_normal((1021, 997))
        assert_allclose(relative_error(A, (32, 30), version), 0.94246542896145, rtol=0, atol=1e-13)

    def test_double_singular_values(self, version):
        A = scipy.fft.dct(np.eye(1024), axis=0, norm="ortho")[:, np.arange(1024).reshape(32, 32).T.ravel()]
        for key in range(3):
            assert_allclose(relative_error(A, (32, 32), version, key), 0.8333170557383889, rtol=0, atol=1e-12)
        # rounding A splits the pairs by 1e-8: what float32 can still tell apart
        assert excess(A.astype(np.float32), (32, 32), version) < 1e-8

    def test_kernel_matrices(self, version):
        from sklearn.datasets import load_digits

        x = np.linspace(0, 1, 1024)
        smooth = np.exp(-8 * abs(x[:, None] - x))
        assert_allclose(relative_error(smooth, (32, 32), version), 0.0672723168, rtol=0, atol=1e-10)
        decaying = scipy.linalg.toeplitz(1 / (1 + np.arange(1024)))
        assert_allclose(relative_error(decaying, (32, 32), version), 0.2595659701, rtol=0, atol=1e-10)
        X = load_digits().data[:1024] / 16
        rbf = np.exp(-scipy.spatial.distance.cdist(X, X, "sqeuclidean") / 16)
        assert_allclose(relative_error(rbf, (32, 32), version), 0.1561955558, rtol=0, atol=1e-10)


def with_values(values, seed=0):
    rng = np.random.default_rng(seed)
    q = len(values)
    Q, P = (np.linalg.qr(rng.standard_normal((q, q)))[0] for _ in range(2))
    return (Q * values) @ P


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    "values",
    [np.ones(16), 1 - 1e-10 * np.arange(16), 10.0 ** -np.arange(16), np.repeat([3.0, 1.0], 8), np.eye(1, 16)[0]],
    ids=["flat", "clustered", "geometric", "repeated", "rank one"],
)
def test_hard_spectra(values, version):
    for seed in range(20):
        A = with_values(values, seed)
        assert excess(A, (1, 1), version, key=seed) < 1e-15
        assert excess(A.astype(np.float32), (1, 1), version, key=seed) < 2e-8


@pytest.mark.parametrize("version", VERSIONS)
def test_gap(version):
    spectra = {0.0: np.ones(16), 0.75: np.append([2.0, 1.0], np.zeros(14)), 1.0: np.eye(1, 16)[0]}
    for expected, values in spectra.items():
        gap = load(version)(with_values(values)[None], (1, 1), 0)[3]
        assert_allclose(gap, expected, atol=1e-12)


@pytest.mark.parametrize("version", VERSIONS)
class TestMembers:
    def member(self, dtype):
        rng = np.random.default_rng(7)
        left, right = (
            rng.standard_normal((1, 12, 20, 9)).astype(dtype),
            rng.standard_normal((1, 9, 12, 17)).astype(dtype),
        )
        M = products(left, right).transpose(0, 3, 2, 1, 4).reshape(20 * 12, 9 * 17)
        return M.astype(dtype)

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_exact(self, dtype, version):
        assert relative_error(self.member(dtype), (12, 9), version) < 2 * np.finfo(dtype).eps

    def test_noise_is_measured(self, version):
        M = self.member(np.float64)
        E = np.random.default_rng(8).standard_normal(M.shape)
        A = M + 1e-10 * np.linalg.norm(M) / np.linalg.norm(E) * E
        S = slices((A - M)[None], 12, 9)
        u, _, vh = np.linalg.svd(slices(M[None], 12, 9))
        u, v = u[..., :, :1], vh[..., :1, :].swapaxes(-1, -2)
        S = S - u @ (u.swapaxes(-1, -2) @ S)  # to first order, the noise that no rank-one change can take away
        expected = np.linalg.norm(S - S @ v @ v.swapaxes(-1, -2)) / np.linalg.norm(A)
        assert_allclose(relative_error(A, (12, 9), version), expected, rtol=1e-3)


@pytest.mark.parametrize("version", VERSIONS)
class TestScales:
    @pytest.mark.parametrize(("dtype", "powers"), [(np.float64, [664, -664, 64, -2]), (np.float32, [100, -90, 18, 2])])
    def test_powers_of_two(self, dtype, powers, version):
        A = np.random.default_rng(9).standard_normal((2, 24, 30)).astype(dtype)
        left, right, sigma, gap, residual, norm, _ = load(version)(A, (4, 3), 0)
        for power in powers:
            scaled = load(version)(np.ldexp(A, power), (4, 3), 0)
            half = 2.0 ** (power // 2)
            assert_array_equal(scaled[0], left * dtype(half))
            assert_array_equal(scaled[1], right * dtype(half))
            assert_array_equal(scaled[3], gap)
            for ours, theirs in ((scaled[2], sigma), (scaled[4], residual), (scaled[5], norm)):
                assert_array_equal(ours, theirs * half * half)

    @pytest.mark.parametrize("factor", [1e200, 1e-200, 1e-290])
    def test_far_from_one(self, factor, version):
        A = np.random.default_rng(10).standard_normal((60, 60))
        assert_allclose(
            relative_error(A * factor * 1e10, (6, 5), version), relative_error(A, (6, 5), version), rtol=1e-14
        )

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_subnormal_numbers(self, dtype, version):
        A = (1000 * np.random.default_rng(11).standard_normal((1, 12, 12))).round()
        left, right, sigma, _, residual, norm, _ = load(version)(
            A.astype(dtype) * np.finfo(dtype).smallest_subnormal, (3, 3), 0
        )
        unit = float(np.finfo(dtype).smallest_subnormal)
        expected = load(version)(A, (3, 3), 0)
        root = unit**0.5
        tolerance = 1e-5 if dtype is np.float32 else 1e-2 / 1000
        assert_allclose(products(left / root, right / root), products(*expected[:2]), atol=tolerance * 1e3)
        for ours, theirs in ((sigma, expected[2]), (residual, expected[4]), (norm, expected[5])):
            assert_allclose(ours / unit, theirs, rtol=1e-4, atol=0.51)

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_zeros(self, dtype, version):
        A = np.random.default_rng(12).standard_normal((2, 12, 15)).astype(dtype)
        A[0, 1::3, 5:10] = 0
        results = load(version)(A, (3, 3), 0)
        left, right = results[:2]
        assert not left[0, 1, :, 1].any()
        assert not right[0, 1, 1].any()
        assert [values[0, 1, 1] for values in results[2:6]] == [0, 0, 0, 0]
        assert not any(values.any() for values in load(version)(np.zeros_like(A), (3, 3), 0))

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_not_finite(self, dtype, bad, version):
        A = np.random.default_rng(13).standard_normal((2, 33, 66)).astype(dtype)
        expected = load(version)(A, (3, 2), 0)
        A[1, 7, 65] = bad
        results = load(version)(A, (3, 2), 0)
        spoilt = np.zeros((2, 2, 3), bool)
        spoilt[1, 1, 1] = True
        assert_array_equal(np.isnan(results[5]), spoilt)
        for ours, theirs in zip(results[2:], expected[2:], strict=True):
            assert_array_equal(ours[~spoilt], theirs[~spoilt])
        assert not products(*results[:2])[spoilt].any()
        assert not any(values[spoilt].any() for values in (results[2], results[3], results[4], results[6]))


class TestNumba:
    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("shape", [(2, 100, 90), (2, 90, 100), (1, 64, 640)])
    def test_threads_and_layouts_change_no_bit(self, shape, dtype, monkeypatch):
        A = np.random.default_rng(14).standard_normal(shape).astype(dtype)
        kernel = load("numba")
        monkeypatch.setattr(threads, "_SERIAL", np.inf)
        expected = [result.tobytes() for result in kernel(A, (7, 6), 1)]
        monkeypatch.setattr(threads, "_SERIAL", 0)
        monkeypatch.setattr(threads, "n_threads", lambda: 3)
        for _, array in layouts(A):
            assert [result.tobytes() for result in kernel(array, (7, 6), 1)] == expected

    def test_other_strides(self, tmp_path):
        A = np.random.default_rng(15).standard_normal((1, 60, 50))
        expected = load("numba")(A, (5, 4), 0)
        packed = np.zeros((1, 60, 50), np.dtype([("mark", "u1"), ("value", "f8")]))
        packed["value"] = A
        A.tofile(tmp_path / "data")
        mapped = np.memmap(tmp_path / "data", np.float64, "r", shape=A.shape)
        for array in (packed["value"], np.asarray(mapped)):
            for ours, theirs in zip(load("numba")(array, (5, 4), 0), expected, strict=True):
                assert_array_equal(ours, theirs)

    def test_one_row_for_all(self):
        row = np.random.default_rng(16).standard_normal(50)
        assert relative_error(np.broadcast_to(row, (60, 50)), (5, 4)) < 1e-15

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_starts(self, dtype):
        """In a rotation every vector is as good as any other, so the answer is where it started."""
        expected = normals(0, Stream.STARTS, range(34, 35), 16, to=np.empty(0, dtype))[0]
        assert_allclose(expected[:4], [0.7835586071, 2.6090922356, 0.8898516297, -1.1099776030], rtol=1e-6)
        J, K = 8, 5  # batch 0, k = 4, j = 2
        A = slices_of_rotations(J, K, 16).astype(dtype)
        right = load("numba")(A[None], (J, K), 0)[1][0, 4, 2]
        ratio = right / expected
        assert_allclose(ratio, ratio[0], rtol=1e-5)

    def test_slices_that_repeat_get_different_starts(self):
        A = np.tile(np.linalg.qr(np.random.default_rng(17).standard_normal((16, 16)))[0], (3, 3))
        A = A.reshape(3, 16, 48).transpose(1, 0, 2).reshape(48, 48)
        right = load("numba")(A[None], (3, 3), 0)[1].reshape(9, 16)
        assert len(np.unique(np.round(right, 6), axis=0)) == 9

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_tall_slices_keep_their_basis_orthogonal(self, dtype):
        """Their singular values lie close together: most of every step is along the vectors before."""
        A = np.random.default_rng(19).standard_normal((1, 3200, 64)).astype(dtype)
        *_, suspect = load("numba")(A, (8, 2), 0)
        assert not suspect.any()

    def test_exact_members_take_two_steps(self, monkeypatch):
        """Their residual is that of two products; a third would meet rounding alone."""
        rng = np.random.default_rng(18)
        A = np.outer(rng.standard_normal(64), rng.standard_normal(64))
        *_, gap, residual, norm, suspect = load("numba")(A[None], (1, 1), 0)
        assert gap[0, 0, 0] > 1 - 1e-14
        assert residual[0, 0, 0] < 1e-15 * norm[0, 0, 0]
        assert not suspect.any()


def slices_of_rotations(J, K, q):
    rng = np.random.default_rng(19)
    S = np.linalg.qr(rng.standard_normal((K, J, q, q)))[0]
    return S.transpose(2, 1, 0, 3).reshape(q * J, K * q)
