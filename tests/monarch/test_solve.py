"""Systems, inverses and determinants of chains against the dense ones; singular blocks are named."""

import numpy as np
import pytest
from matrices import layouts
from numpy.linalg import LinAlgError

from linalg_ml._core.arrays import to_numpy
from linalg_ml.monarch import MonarchMatrix
from linalg_ml.monarch._stages import Blocks, blocks, parity

DTYPES = [np.float32, np.float64, np.complex64, np.complex128]
KINDS = ["one stage", "two stages", "transposed", "gathers", "padded", "rank above one", "takes real"]


def draw(shape, dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal(shape)
    return (X + 1j * rng.standard_normal(shape) if np.issubdtype(dtype, np.complexfloating) else X).astype(dtype)


def monarch(m, n, J, K, rank=1, *, dtype=np.float64, batch=()):
    left = draw((*batch, J, -(-m // J), K, rank), dtype)
    return MonarchMatrix(left, draw((*batch, K, rank, J, -(-n // K)), dtype, 1), shape=(m, n))


def make(kind, dtype=np.float64, batch=()):
    """Return a regular 12 × 12 matrix of that kind."""
    if kind == "one stage":
        return MonarchMatrix.from_stages([draw((*batch, 3, 2, 2, 2), dtype)])
    if kind == "two stages":
        return monarch(12, 12, 3, 4, dtype=dtype, batch=batch)
    if kind == "transposed":
        return monarch(12, 12, 3, 4, dtype=dtype, batch=batch).T
    if kind == "padded":
        return monarch(12, 12, 5, 5, 2, dtype=dtype, batch=batch)
    if kind == "rank above one":
        return monarch(12, 12, 3, 4, 2, dtype=dtype, batch=batch)
    if kind == "gathers":
        perm = np.random.default_rng(3).permutation(12)
        W = [3 * np.eye(3) + draw((*batch, 2, 2, 3, 3), dtype), draw((*batch, 1, 6, 2, 2), dtype)]
        return MonarchMatrix.from_stages([perm, W[0].astype(dtype), perm[::-1], W[1]])
    wide = np.result_type(dtype, np.complex64)
    F = np.fft.fft(np.eye(12), norm="ortho")
    spectrum = np.fft.fft(draw((*batch, 12)))
    right = (spectrum[..., None] * F)[..., None, None, :, :]
    return MonarchMatrix._of((blocks(F.conj()[None, None].astype(wide)), blocks(right.astype(wide))), takes_real=True)


def everywhere(kind, xp, dtype):
    """Return that matrix with its stages in another library."""
    M = make(kind, dtype)
    chain = tuple(Blocks(xp.asarray(s.values), s.form) if isinstance(s, Blocks) else s for s in M._chain)
    return MonarchMatrix._of(chain, takes_real=M._takes_real)


def condition(M):
    return float(np.max(np.linalg.cond(M.to_dense())))


class TestSolve:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("batch", [(), (2, 1)])
    def test_against_dense(self, kind, dtype, batch):
        M = make(kind, dtype, batch)
        A = M.to_dense()
        eps = float(np.finfo(dtype).eps)
        for shape in [(12,), (12, 0), (12, 1), (12, 20), (3, 12, 4)]:
            for operand in (np.float64, np.complex64):
                b = draw(shape, operand)
                kept = b.copy()
                x = M.solve(b)
                expected = np.linalg.solve(A, b[:, None])[..., 0] if b.ndim == 1 else np.linalg.solve(A, b)
                assert x.shape == expected.shape
                assert x.dtype == np.result_type(M.dtype, operand)
                error = np.linalg.norm(x - expected)
                assert error <= 100 * max(eps, np.finfo(operand).eps) * condition(M) * (1 + np.linalg.norm(expected))
                assert np.array_equal(b, kept)

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("batch", [(), (2, 1)])
    def test_inverse(self, kind, dtype, batch):
        M = make(kind, dtype, batch)
        A = M.to_dense()
        N = M.inv()
        tolerance = 300 * float(np.finfo(dtype).eps) * condition(M)
        assert N.shape == M.shape
        assert N.dtype == M.dtype
        assert np.abs(N.to_dense() @ A - np.eye(12)).max() <= tolerance * np.linalg.norm(
            np.linalg.inv(A)
        ) * np.linalg.norm(A)
        assert np.abs((N.inv()).to_dense() - A).max() <= 100 * tolerance * np.linalg.norm(A)
        assert np.iscomplexobj(N @ np.ones(12)) == np.iscomplexobj(M @ np.ones(12))

    def test_memory_orders(self):
        M = make("two stages")
        expected = np.linalg.solve(M.to_dense(), draw((12, 5)))
        for _, b in layouts(draw((12, 5))):
            assert np.allclose(M.solve(b), expected, rtol=1e-10, atol=1e-10)
        assert np.allclose(M.solve(np.arange(12)), np.linalg.solve(M.to_dense(), np.arange(12.0)))
        assert np.allclose(M.solve(list(range(12))), np.linalg.solve(M.to_dense(), np.arange(12.0)))

    def test_backward_error(self):
        """Stages of condition 1e5: the residual stays at rounding."""
        rng = np.random.default_rng(0)
        left, right = (np.linalg.qr(rng.standard_normal((16, 16, 16)))[0] for _ in range(2))
        left, right = left * np.geomspace(1, 1e-3, 16), right * np.geomspace(1, 1e-2, 16)
        M = MonarchMatrix(left[..., None], right[:, None])
        A, b = M.to_dense(), rng.standard_normal(256)
        x = M.solve(b)
        assert np.linalg.norm(A @ x - b) <= 1e-14 * np.linalg.norm(A) * np.linalg.norm(x)

    def test_permutation_blocks_are_exact(self):
        """No pivot on the diagonal anywhere."""
        rng = np.random.default_rng(1)
        left = np.stack([np.eye(5)[rng.permutation(5)] for _ in range(4)])[..., None]
        right = np.stack([np.eye(4)[rng.permutation(4)] for _ in range(5)])[:, None]
        M = MonarchMatrix(left, right)
        x = rng.standard_normal((20, 3))
        assert np.array_equal(M.solve(M @ x), x)
        assert np.array_equal(M.inv().to_dense(), M.to_dense().T)
        assert M.slogdet() == np.linalg.slogdet(M.to_dense())
        assert abs(M.det()) == 1

    def test_graded_blocks_are_make(self):
        """Diagonal scales over 300 decades are no singularity."""
        D = np.diag(10.0 ** np.arange(-150, 151, 50))[None, None]
        M = MonarchMatrix.from_stages([D, np.linalg.qr(draw((7, 7)))[0][None, None]])
        b = draw(7)
        x = M.solve(D[0, 0] @ b)
        assert np.allclose(M.stages[1][0, 0] @ x, b, rtol=1e-13)
        assert np.allclose(M.inv().stages[1][0, 0].diagonal() * D[0, 0].diagonal(), 1, rtol=1e-15)
        rows, columns = 10.0 ** np.linspace(-100, 100, 6), 10.0 ** np.linspace(60, -80, 6)
        W = rows[:, None] * (np.eye(6) * 6 + draw((6, 6))) * columns
        N = MonarchMatrix.from_stages([W[None, None]])
        assert np.allclose(N.inv().stages[0][0, 0] * columns[:, None] * rows @ (W / rows[:, None] / columns), np.eye(6))

    @pytest.mark.parametrize("how", ["zero", "zero row", "zero column", "equal rows", "equal columns", "rank one"])
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_a_singular_block_is_named(self, how, dtype):
        for factor, place in [(0, (0, 2)), (1, (3, 0))]:
            W = [draw((1, 3, 8, 8), dtype), draw((8, 1, 3, 3), dtype, 1)]
            block = W[factor][place]
            if how == "zero":
                block[...] = 0
            elif how.startswith("zero"):
                block[(1, slice(None)) if how == "zero row" else (slice(None), 1)] = 0
            elif how == "equal rows":
                block[2] = block[0]
            elif how == "equal columns":
                block[:, 2] = block[:, 0]
            else:
                block[...] = draw(block.shape[0], dtype)[:, None] * draw(block.shape[0], dtype, 9)
            M = MonarchMatrix.from_stages(W)
            name = f"factor {factor}: block \\({place[0]}, {place[1]}\\) is singular"
            for operation in (M.inv, lambda M=M: M.solve(np.ones(24)), lambda M=M: M.solve(np.zeros((24, 2)))):
                with pytest.raises(LinAlgError, match=name):
                    operation()
            sign, log = M.slogdet()
            assert np.isfinite(sign)
            assert sign == 0 or how not in ("zero", "zero row", "zero column")
            assert log < -5 or how == "zero"

    def test_the_batch_is_named(self):
        left, right = draw((2, 3, 3, 4, 4, 1)), draw((2, 3, 4, 1, 3, 3))
        right[1, 2, 3] = 0
        with pytest.raises(LinAlgError, match="factor 1: block \\(3, 0\\) of matrix \\(1, 2\\) is singular"):
            MonarchMatrix(left, right).inv()

    def test_small_determinants_are_not_singular(self):
        """A determinant that underflows says nothing, nor does it name the wrong block."""
        W = np.stack([1e-3 * np.eye(200), np.eye(200)])[None]
        assert np.allclose(MonarchMatrix.from_stages([W]).solve(np.ones(400))[::2], 1e3)
        W[0, 1, 1] = W[0, 1, 0] = 1.0
        with pytest.raises(LinAlgError, match="block \\(0, 1\\)"):
            MonarchMatrix.from_stages([W + 0.0]).inv()

    def test_an_inverse_that_overflows(self):
        M = MonarchMatrix.from_stages([np.array([1.0, 1e-310]).reshape(1, 2, 1, 1)])
        with pytest.raises(LinAlgError, match="factor 0: block \\(0, 1\\) is too small: its inverse overflows"):
            M.inv()
        assert np.allclose(M.solve([2.0, 1e-310]), [2, 1])

    def test_singular_where_blocks_are_not_square(self):
        M = monarch(12, 12, 3, 4, 1)  # slices 4 × 3 of rank 1: left blocks 4 × 4 and right blocks 3 × 3
        M = MonarchMatrix.from_stages([M.stages[0][..., :2], M.stages[1][:2], np.arange(12)[:6]], (12, 12))
        for operation in (M.inv, lambda: M.solve(np.ones(12))):
            with pytest.raises(LinAlgError, match="factor 0: block \\(0, 0\\) is singular"):
                operation()
        assert np.linalg.det(M.to_dense()) == pytest.approx(0, abs=1e-12)

    def test_too_large_for_a_dense_factorisation(self, monkeypatch):
        M = monarch(4100, 4100, 50, 41, 3, dtype=np.float32)
        for operation in (M.inv, M.slogdet, M.det, lambda: M.solve(np.ones(4100))):
            with pytest.raises(LinAlgError, match="up to 4096 rows; got 4100"):
                operation()
        monkeypatch.setattr("linalg_ml.monarch._solve._DENSE", 12)
        make("two stages").slogdet()
        with pytest.raises(LinAlgError, match="up to 12 rows; got 13"):
            monarch(13, 13, 3, 4).solve(np.ones(13))

    def test_large_and_square(self):
        """Stage by stage there is no limit."""
        n = 2**14
        W = np.linalg.qr(draw((2, 16, 16, 16)))[0]
        W = [np.broadcast_to(W[0, :1], (1, 1024, 16, 16)), np.broadcast_to(W[1, :1], (1024, 1, 16, 16))]
        M = MonarchMatrix.from_stages([w.copy() for w in W])
        x = draw(n)
        assert np.allclose(M.solve(M @ x), x)
        takes_real = MonarchMatrix._of((blocks(1j * W[0]), blocks(-1j * W[1])), takes_real=True)
        assert takes_real.solve(M @ x).dtype == np.float64
        assert np.allclose(takes_real.solve(M @ x), x)

    def test_refusals(self):
        M = monarch(12, 8, 3, 4)
        for name in ("inv", "slogdet", "det"):
            with pytest.raises(ValueError, match="needs a square matrix, got shape \\(12, 8\\)"):
                getattr(M, name)()
        with pytest.raises(ValueError, match="solve needs a square matrix"):
            M.solve(np.ones(12))
        M = make("two stages")
        for b in (np.ones(11), np.ones((11, 12)), np.ones((1, 12))):
            with pytest.raises(ValueError, match="b must have 12 rows"):
                M.solve(b)
        with pytest.raises(ValueError, match="empty"):
            M.solve(np.ones((0, 4)))
        with pytest.raises(TypeError, match="b"):
            M.solve("b")


class TestDeterminant:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("batch", [(), (2, 3)])
    def test_against_dense(self, kind, dtype, batch):
        M = make(kind, dtype, batch)
        sign, log = np.linalg.slogdet(M.to_dense())
        got_sign, got_log = M.slogdet()
        tolerance = 1000 * float(np.finfo(dtype).eps) * condition(M)
        assert np.shape(got_sign) == np.shape(got_log) == batch
        assert np.allclose(got_sign, sign, atol=tolerance)
        assert np.allclose(got_log, log, atol=tolerance)
        assert np.allclose(M.det(), sign * np.exp(log), rtol=10 * tolerance)
        assert np.asarray(got_sign).dtype == M.dtype
        assert np.asarray(got_log).dtype == np.asarray(got_log).real.dtype

    def test_case(self):
        """Issue's case: nblocks (8, 18), n = 144: the permutations inside cancel, also for J ≠ K."""
        for seed in range(5):
            left, right = draw((8, 18, 18, 1), seed=seed), draw((18, 1, 8, 8), seed=seed + 9)
            M = MonarchMatrix(left, right)
            sign, log = np.linalg.slogdet(M.to_dense())
            assert M.slogdet()[0] == sign
            assert M.slogdet()[1] == pytest.approx(log, abs=1e-12 * abs(log) + 1e-10)

    @pytest.mark.parametrize("n", [1, 2, 3, 10, 31])
    def test_parity(self, n):
        rng = np.random.default_rng(n)
        for _ in range(10):
            order = rng.permutation(n)
            assert parity(order) == round(np.linalg.det(np.eye(n)[order]))
            M = MonarchMatrix.from_stages([order, np.eye(n)[None, None]])
            assert M.det() == pytest.approx(np.linalg.det(M.to_dense()))

    def test_singular(self):
        M = MonarchMatrix.from_stages([np.zeros((1, 2, 2, 2)), np.eye(2) * np.ones((2, 1, 1, 1))])
        assert M.slogdet() == (0.0, -np.inf)
        assert M.det() == 0
        assert MonarchMatrix(np.zeros((2, 2, 2, 2)), np.zeros((2, 2, 2, 2))).slogdet() == (0.0, -np.inf)

    def test_no_overflow(self):
        M = MonarchMatrix.from_stages([1e100 * np.eye(100)[None, None]])
        assert M.slogdet() == (1.0, pytest.approx(100 * 100 * np.log(10)))

    def test_of_a_gather_that_leaves_out(self):
        M = MonarchMatrix.from_stages([np.array([0, -1, 2]), 2 * np.eye(3)[None, None]])
        assert M.slogdet() == (0.0, -np.inf)


class TestLibraries:
    @pytest.mark.parametrize("kind", ["two stages", "transposed", "padded", "takes real"])
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_same_answers(self, kind, dtype, xp):
        M, expected = everywhere(kind, xp, dtype), make(kind, dtype)
        tolerance = {"rtol": 1e5 * float(np.finfo(dtype).eps), "atol": 1e5 * float(np.finfo(dtype).eps)}
        for operand in (np.float64, np.complex64):
            for shape in [(12,), (12, 3), (2, 12, 3), (12, 0)]:
                b = draw(shape, operand)
                x = M.solve(xp.asarray(b))
                assert str(x.dtype).endswith(str(np.result_type(expected.dtype, operand)))
                wide = {"rtol": 1e-2, "atol": 1e-2} if operand == np.complex64 else tolerance
                assert np.allclose(to_numpy(x), expected.solve(b), **wide)
        inverse = M.inv()
        assert inverse.dtype == M.dtype
        assert np.allclose(to_numpy(inverse.to_dense()), expected.inv().to_dense(), **tolerance)
        sign, log = M.slogdet()
        assert np.allclose(to_numpy(sign), expected.slogdet()[0], **tolerance)
        assert np.allclose(to_numpy(log), expected.slogdet()[1], **tolerance)
        assert np.allclose(to_numpy(M.det()), expected.det(), **tolerance)

    def test_singular_blocks(self, xp):
        W = draw((1, 3, 4, 4))
        W[0, 1, 2] = W[0, 1, 0]
        M = MonarchMatrix.from_stages([xp.asarray(W)])
        for operation in (M.inv, lambda: M.solve(xp.ones(12, dtype=xp.float64))):
            with pytest.raises(LinAlgError, match="factor 0: block \\(0, 1\\) is singular"):
                operation()

    def test_differentiable(self):
        torch = pytest.importorskip("torch")
        left, right = (torch.tensor(X, requires_grad=True) for X in (draw((2, 3, 3, 1)), draw((3, 1, 2, 2), seed=1)))
        b = torch.tensor(draw((6, 2)), requires_grad=True)

        def number(left, right, b):
            M = MonarchMatrix(left, right)
            return M.solve(b).sum() + (M.inv() @ b).sum() + M.slogdet()[1]

        assert torch.autograd.gradcheck(number, (left, right, b))
