"""suggest: the front of error against parameters, held against all projections."""

import itertools
import sys

import numpy as np
import pytest
from matrices import gaussian, huge, layouts, tiny
from scipy import sparse
from scipy.linalg import block_diag

from linalg_ml._core.arrays import to_numpy
from linalg_ml.monarch import SuggestResult, project, suggest
from linalg_ml.monarch._suggest import SuggestRow


def everything(A, budget):
    """Return (parameters, error, nblocks, rank) of every projection within the budget, one after the other."""
    m, n = A.shape
    found = []
    for J, K in itertools.product(*([d for d in range(1, size + 1) if size % d == 0] for size in (m, n))):
        for rank in range(1, min(m // J, n // K) + 1):
            if rank * (m * K + n * J) <= budget:
                M = project(A, nblocks=(J, K), rank=rank, method="svd")
                assert M.n_parameters == rank * (m * K + n * J)
                found.append((M.n_parameters, M.relative_error, (J, K), rank))
    return found


def assert_front(result, A, budget, least=1e-13):
    """Hold the front against all projections: no row is beaten, and all that matter are there."""
    found = everything(A, budget)
    errors = {(nblocks, rank): error for _, error, nblocks, rank in found}
    for row in result.rows:
        assert row.relative_error == pytest.approx(errors[row.nblocks, row.rank], rel=1e-9, abs=least)
        assert row.n_parameters == row.rank * (A.shape[0] * row.nblocks[1] + A.shape[1] * row.nblocks[0])
        for parameters, error, _, _ in found:
            assert parameters > row.n_parameters or error >= row.relative_error * (1 - 1e-9) - least
    sizes, falling = zip(*(row[:2] for row in result.rows), strict=True)
    assert list(sizes) == sorted(set(sizes))
    assert list(falling) == sorted(set(falling), reverse=True)
    for parameters, error, _, _ in found:
        assert any(row.n_parameters <= parameters and row.relative_error <= error + least for row in result.rows)


class TestFront:
    @pytest.mark.parametrize("shape", [(12, 12), (12, 18), (16, 6), (7, 12), (13, 11), (4, 30)])
    @pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128])
    def test_brute_force(self, shape, dtype):
        A = gaussian(*shape, seed=1, dtype=dtype)
        wide = A.astype(np.result_type(A, np.float64))
        m, n = shape
        for budget in (m * n, m * n // 2):
            result = suggest(A, budget=budget)
            assert_front(result, wide, budget)
            assert result.best == result.rows[-1]
            assert (result.shape, result.budget, result.tol, result.skipped) == (shape, budget, None, ())
        assert suggest(A) == suggest(A, budget=m * n // 2)
        assert suggest(A, budget=10**9) == suggest(A, budget=m * n)

    @pytest.mark.parametrize("noise", [0, 1e-10, 1e-4])
    def test_members(self, noise):
        rng = np.random.default_rng(0)
        A = project(rng.standard_normal((24, 30)), nblocks=(4, 5), rank=2).to_dense()
        E = rng.standard_normal(A.shape)
        A += noise * np.linalg.norm(A) / np.linalg.norm(E) * E
        result = suggest(A, budget=720)
        assert_front(result, A, 720)
        row = next(row for row in result.rows if row.n_parameters == 480)
        assert (row.nblocks, row.rank) == ((4, 5), 2)
        assert noise / 3 <= row.relative_error <= max(noise, 1e-15)

    def test_families(self):
        rng = np.random.default_rng(0)
        thin = rng.standard_normal((64, 2)) @ rng.standard_normal((2, 64))
        assert suggest(thin).best[2:] == ((1, 1), 2, "low rank")
        columns = np.concatenate([np.outer(*rng.standard_normal((2, 64)))[:, :16] for _ in range(4)], axis=1)
        assert suggest(columns).best[2:] == ((1, 4), 1, "block-dense")
        rows = columns.T.reshape(4, 16, 64).transpose(1, 0, 2).reshape(64, 64)  # those of a group are strided
        assert suggest(rows).best[2:] == ((4, 1), 1, "monarch")
        member = project(rng.standard_normal((64, 64)), nblocks=8).to_dense()
        assert suggest(member).best[2:] == ((8, 8), 1, "monarch")

    def test_case(self):
        """Acceptance: block_diag of 16 Gaussian 64 × 64 blocks."""
        A = block_diag(*np.random.default_rng(0).standard_normal((16, 64, 64)))
        best = suggest(A, budget=82_000).best
        assert (best.nblocks, best.rank, best.n_parameters, best.family) == ((64, 16), 1, 81_920, "monarch")
        assert best.relative_error <= 1e-14
        assert project(A).relative_error == pytest.approx(0.6248303770991, abs=1e-12)
        assert project(A, nblocks=(64, 16)).relative_error <= 1e-14

    @pytest.mark.parametrize("make", [huge, tiny])
    def test_scales(self, make):
        A = make(12, 12)
        expected = suggest(A / np.abs(A).max())
        for row, other in zip(suggest(A).rows, expected.rows, strict=True):
            assert row.relative_error == pytest.approx(other.relative_error, rel=1e-12)
            assert row[2:] == other[2:]
        for scale in (1e-200, 1e200):
            B = gaussian(12, 12)
            scaled, plain = suggest(B * scale).rows, suggest(B).rows
            assert np.allclose(
                [r.relative_error for r in scaled], [r.relative_error for r in plain], rtol=1e-12, atol=0
            )

    def test_zero(self):
        result = suggest(np.zeros((12, 18)))
        assert result.rows == (SuggestRow(30, 0.0, (1, 1), 1, "low rank"),) == (result.best,)


class TestBest:
    def test_tolerance(self):
        """The smallest that reaches it; with nothing but the dense size as budget."""
        x = np.linspace(0, 1, 64)
        A = np.exp(-8 * abs(x[:, None] - x))
        found = everything(A, 64 * 64)
        for tol in (0.5, 0.1, 1e-2, 1e-3):
            result = suggest(A, tol=tol)
            reached = [entry for entry in found if entry[1] <= tol]
            assert result.best.relative_error <= tol
            assert result.best.n_parameters == min(reached)[0]
            assert (result.budget, result.tol) == (64 * 64, tol)

    def test_tolerance_out_of_reach(self):
        A = gaussian(16, 16)
        result = suggest(A, tol=1e-3, budget=100)
        assert result.best == result.rows[-1] == suggest(A, budget=100).best
        assert suggest(A, tol=0).best == suggest(A, tol=0).rows[-1]

    def test_exact_ones_are_equal(self):
        """Rounding does not buy parameters: the first exact row is the last."""
        result = suggest(np.outer(np.arange(1.0, 25), np.arange(3.0, 27)), budget=24 * 24)
        assert len(result.rows) == 1
        assert result.best[2:] == ((1, 1), 1, "low rank")


class TestInput:
    def test_memory_orders_and_types(self, tmp_path):
        A = gaussian(12, 18)
        expected = suggest(A)
        for _, B in layouts(A):
            assert suggest(B).best[2:] == expected.best[2:]
        mapped = np.memmap(tmp_path / "A", np.float64, "w+", shape=A.shape)
        mapped[...] = A
        assert suggest(mapped) == expected
        integers = np.arange(144).reshape(12, 12) % 7
        assert suggest(integers) == suggest(integers.astype(float)) == suggest(integers.tolist())
        assert suggest(A.astype(np.float16)) == suggest(A.astype(np.float16).astype(np.float32))
        assert suggest(integers > 3).shape == (12, 12)

    def test_unmodified(self):
        A = gaussian(12, 18)
        kept = A.copy()
        suggest(A)
        assert np.array_equal(A, kept)

    def test_namespaces(self, other_xp):
        A = gaussian(12, 18, dtype=np.complex128)
        assert suggest(other_xp.asarray(A)) == suggest(A)

    def test_refusals(self):
        A = gaussian(12, 18)
        for bad, message in [(A[0], "2-d"), (A[None], "2-d"), (A[:0], "empty")]:
            with pytest.raises(ValueError, match=f"A.*{message}"):
                suggest(bad)
        for value in (np.nan, np.inf):
            B = A.copy()
            B[3, 4] = value
            with pytest.raises(ValueError, match="A must be finite, got NaN or infinity in row 3"):
                suggest(B)
        for bad in ("text", None, A.astype(object), sparse.eye_array(4).tocsr()):
            with pytest.raises(TypeError, match="A"):
                suggest(bad)

    def test_wrong_numbers(self):
        A = gaussian(12, 18)
        for budget in (0, -3):
            with pytest.raises(ValueError, match="budget must be an integer ≥ 1"):
                suggest(A, budget=budget)
        for budget in (1.5, "3", True):
            with pytest.raises(TypeError, match="budget"):
                suggest(A, budget=budget)
        for tol in (-0.1, 1.5, np.nan):
            with pytest.raises(ValueError, match="tol"):
                suggest(A, tol=tol)
        with pytest.raises(TypeError, match="tol"):
            suggest(A, tol="0.1")

    def test_no_shape_is_small_enough(self):
        with pytest.raises(ValueError, match="no Monarch form of a 12 × 18 matrix: got 29 parameters, and every shape"):
            suggest(gaussian(12, 18), budget=29)
        assert len(suggest(gaussian(12, 18), budget=30).rows) == 1
        for shape in [(1, 1), (1, 30), (30, 1), (3, 3)]:
            with pytest.raises(ValueError, match="no Monarch form"):
                suggest(gaussian(*shape))

    def test_large_slices_are_skipped(self, monkeypatch):
        monkeypatch.setattr("linalg_ml.monarch._suggest._LARGEST", 6)
        A = gaussian(12, 12)
        result = suggest(A)
        assert result.skipped == ((1, 1),)
        assert all(row.nblocks != (1, 1) for row in result.rows)
        assert "not tried, slices too large: nblocks (1, 1)" in str(result)
        with pytest.raises(ValueError, match="larger than 2048"):
            suggest(A, budget=24)


class TestShown:
    def test_table(self):
        result = suggest(gaussian(12, 18))
        lines = str(result).splitlines()
        assert lines[0].split() == ["parameters", "of", "dense", "rel.", "error", "nblocks", "rank", "family"]
        assert len(lines) == 1 + len(result.rows)
        assert sum("<- best" in line for line in lines) == 1
        assert str(result.best.n_parameters) in next(line for line in lines if "<- best" in line)
        assert "exact" in str(suggest(np.ones((6, 6)), budget=36))

    def test_long_tables_are_thinned(self):
        result = suggest(gaussian(96, 96), tol=0.55)
        assert len(result.rows) > 40
        lines = str(result).splitlines()
        assert len(lines) <= 28
        assert "<- best" in str(result)
        shown = [line for line in lines if line.split()[0].isdigit()]
        assert lines[-1] == f"({len(result.rows) - len(shown)} rows between these are not shown)"
        assert [int(line.split()[0]) for line in shown][:: len(shown) - 1] == [
            result.rows[0].n_parameters,
            result.rows[-1].n_parameters,
        ]

    def test_is_frozen(self):
        result = suggest(gaussian(12, 18))
        assert isinstance(result, SuggestResult)
        with pytest.raises(AttributeError):
            result.best = None
        for row in result.rows:
            assert [type(value) for value in row] == [int, float, tuple, int, str]

    def test_plot(self):
        figure = pytest.importorskip("matplotlib.figure").Figure()
        ax = figure.add_subplot()
        result = suggest(np.kron(np.eye(4), gaussian(3, 4)))
        assert result.plot(ax) is ax
        x, y = ax.lines[-1].get_data()
        assert (list(x), list(y)) == ([result.best.n_parameters], [max(result.best.relative_error, 1e-14)])
        assert sum(len(line.get_xdata()) for line in ax.lines[:-1]) == len(result.rows)
        assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
        figure.canvas.draw()

    def test_plot_on_its_own(self, monkeypatch):
        pyplot = pytest.importorskip("matplotlib.pyplot")
        monkeypatch.setattr(pyplot, "figure", pytest.importorskip("matplotlib.figure").Figure)
        assert suggest(gaussian(12, 18)).plot().lines

    def test_no_matplotlib(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "matplotlib", None)
        with pytest.raises(ImportError, match="linalg-ml\\[plot\\]"):
            suggest(gaussian(12, 18)).plot()

    def test_progress(self, capsys):
        suggest(gaussian(12, 18))
        assert capsys.readouterr().err == ""
        suggest(gaussian(12, 18), verbose=True)
        assert "shapes" in capsys.readouterr().err


def test_what_it_says_is_what_one_gets(xp):
    A = gaussian(24, 36)
    for row in suggest(A, budget=600).rows:
        M = project(xp.asarray(A), nblocks=row.nblocks, rank=row.rank)
        assert M.n_parameters == row.n_parameters
        assert M.relative_error == pytest.approx(row.relative_error, rel=1e-12)
        assert M.norm() ** 2 + M.error**2 == pytest.approx(np.linalg.norm(to_numpy(A)) ** 2)
