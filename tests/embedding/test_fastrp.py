"""The embedding against its definition, to the bit where that is promised."""

import os
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from embedding.graphs import brute_force, projection_of, random_graph, same_bits, scale_free
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse

from linalg_ml import config_context
from linalg_ml.embedding import fastrp, projection_matrix


class TestDefinition:
    @pytest.mark.filterwarnings("ignore:.*rows of zeros")
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    @pytest.mark.parametrize("trial", range(40))
    def test_brute_force(self, trial, dtype):
        rng = np.random.default_rng([3, trial])
        n = 1 if trial == 0 else int(rng.integers(2, 80))
        S = random_graph(rng, n, directed=bool(trial % 2), weighted=bool(trial % 3))
        options = {
            "weights": rng.standard_normal(rng.integers(1, 5)),
            "self_weight": float(rng.choice([0, 0.7])),
            "normalization": rng.uniform(-1, 1) * (trial % 4 > 0),
            "normalize_powers": bool(trial % 5),
        }
        kind, density = ("gaussian", 1 / 3) if trial % 4 == 1 else ("sparse", float(rng.choice([0.05, 0.3, 1.0])))
        d = int(rng.integers(1, 150))
        E = fastrp(S, n_components=d, projection=kind, density=density, dtype=dtype, rng=trial, **options).embedding
        expected = brute_force(S.toarray(), projection_of(n, d, trial, density, kind), **options)
        tolerance = 1e-13 if dtype == np.float64 else 1e-6
        assert E.dtype == dtype
        assert np.abs(E - expected).max() <= tolerance * max(np.abs(expected).max(), 1e-300)

    @pytest.mark.parametrize(
        ("options", "first", "crc"),
        [
            ({}, [2.1076813, 0.4750871, -0.11929663, -0.09050182], 0xFAA94458),
            ({"projection": "gaussian"}, [0.015187167, 1.4485683, -0.5613517, -0.9114857], 0x8FE75FB8),
            ({"normalize_powers": False}, [3.2514133, 0.63206506, -0.05314478, -0.04848474], 0x94872583),
        ],
    )
    @pytest.mark.parametrize("kernels", ["auto", "reference"])
    def test_known_answers(self, options, first, crc, kernels):
        i = np.arange(9)
        edges = np.r_[i, i], np.r_[(i + 1) % 9, (3 * i + 2) % 9], np.r_[1 + i / 8, np.full(9, 0.3)]
        common = {"n_components": 12, "weights": (0, 1, 0.5, 2), "self_weight": 0.25, "normalization": -0.5}
        with config_context(kernels=kernels):
            E = fastrp(edges, density=1 / 3, rng=7, directed=True, **common, **options).embedding
        assert_allclose(E[0, :4], first, rtol=1e-6)
        assert zlib.crc32(E.astype("<f4").tobytes()) == crc

    def test_rows_equal_scipys_product(self):
        S = scale_free(2000, 5)
        S = S[:, :].tocsr()
        short = np.diff(S.indptr) <= 256
        R = projection_matrix(np.arange(2000), 64, density=1 / 3, rng=0)
        E = fastrp(S, n_components=64, weights=(1,), normalize_powers=False, density=1 / 3, rng=0).embedding
        A = sparse.csr_array(S, dtype=np.float32)
        expected = (A @ R) * (1 / S.sum(axis=1)).astype(np.float32)[:, None]
        assert same_bits(E[short], expected[short])

    @pytest.mark.parametrize("n", [2000, pytest.param(200_000, marks=pytest.mark.slow)])
    def test_hub(self, n):
        spokes = np.zeros(n - 1, int), np.arange(1, n)
        options = {"n_components": 32, "weights": (1, 1, 1, 1), "rng": 1}
        narrow, wide = (fastrp(spokes, dtype=dtype, **options).embedding for dtype in (np.float32, np.float64))
        assert np.max(np.linalg.norm(narrow - wide, axis=1) / np.linalg.norm(wide, axis=1)) <= 1e-6

    def test_permuted_nodes(self):
        S, order = scale_free(500, 4), np.random.default_rng(0).permutation(500)
        E = fastrp(S, rng=2).embedding
        permuted = fastrp(S[order][:, order], node_ids=order, rng=2).embedding
        assert_allclose(permuted, E[order], atol=1e-6 * np.abs(E).max())


class TestBits:
    """One embedding, however it is computed; the graph has a node of more than 256 neighbours."""

    options = {"n_components": 200, "weights": (0.5, 0.0, 1.0, 2.0), "normalization": -0.5, "rng": 5}  # noqa: RUF012

    @pytest.fixture
    def S(self):
        S = scale_free(1500, 6, seed=1)
        assert np.diff(S.indptr).max() > 256
        S.data = np.random.default_rng(0).random(S.nnz) + 0.5
        return S

    @pytest.mark.parametrize("density", [0.02, 1 / 3])
    def test_blocks(self, S, density):
        for normalize in (True, False):
            whole = fastrp(S, density=density, normalize_powers=normalize, **self.options)
            least = 1500 * (2 * 64 * 4 + 3 * 12)
            parts = fastrp(S, density=density, normalize_powers=normalize, max_memory=least, **self.options)
            assert same_bits(parts.embedding, whole.embedding)
            if normalize:
                assert same_bits(parts.row_norms, whole.row_norms)
        with pytest.raises(ValueError, match=f"at least {least} bytes"):
            fastrp(S, density=density, max_memory=least - 1, **self.options)
        with pytest.raises(ValueError, match="keep_powers"):
            fastrp(S, density=density, max_memory=least, keep_powers=True, **self.options)

    def test_threads(self, S, monkeypatch):
        from linalg_ml._core import threads
        from linalg_ml.embedding import _kernels_numba

        expected = fastrp(S, density=0.02, self_weight=0.5, **self.options).embedding
        monkeypatch.setattr(threads, "_SERIAL", 0)
        for module in (threads, _kernels_numba):
            monkeypatch.setattr(module, "n_threads", lambda: 3)
        threads._forget()
        try:
            assert same_bits(fastrp(S, density=0.02, self_weight=0.5, **self.options).embedding, expected)
        finally:
            threads._forget()

    def test_threads_in_processes_of_their_own(self):
        code = """if True:
            import sys, zlib
            import numpy as np
            sys.path.insert(0, sys.argv[1])
            from embedding.graphs import scale_free
            from linalg_ml.embedding import fastrp
            S, sums = scale_free(12_000, 6, seed=1), []
            assert np.diff(S.indptr).max() > 256
            S.data = np.random.default_rng(0).random(S.nnz)
            for options in ({}, {"projection": "gaussian", "normalization": -0.5, "self_weight": 1.0}):
                result = fastrp(S, n_components=40, rng=5, **options)
                parts = result.embedding, result.row_norms, np.array(result.error)
                sums.append([zlib.crc32(np.ascontiguousarray(part).tobytes()) for part in parts])
            print(sums)
        """
        tests = str(Path(__file__).resolve().parents[1])
        said = [
            subprocess.run(
                [sys.executable, "-c", code, tests], check=True, capture_output=True, text=True,
                env={**os.environ, "NUMBA_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": "1"},
            ).stdout
            for threads in "12"
        ]  # fmt: skip
        assert said[0] == said[1] != ""

    def test_first_power(self, S, monkeypatch):
        from linalg_ml.embedding import _model

        sparse_first = fastrp(S, density=0.02, self_weight=0.3, **self.options)
        monkeypatch.setattr(_model, "SPARSE", 0.0)
        dense_first = fastrp(S, density=0.02, self_weight=0.3, **self.options)
        assert same_bits(sparse_first.embedding, dense_first.embedding)
        assert same_bits(sparse_first.row_norms, dense_first.row_norms)

    def test_reference(self):
        S, options = scale_free(400, 6, seed=1), {**self.options, "n_components": 70}
        S = S + sparse.csr_array((np.ones(300), (np.zeros(300, int), np.arange(300))), shape=S.shape)
        for density in (0.02, 1 / 3):
            expected = fastrp(S, density=density, self_weight=0.3, **options).embedding
            with config_context(kernels="reference"):
                assert same_bits(fastrp(S, density=density, self_weight=0.3, **options).embedding, expected)

    def test_memmap_and_kept_powers(self, S, tmp_path):
        expected = fastrp(S, density=0.02, **self.options).embedding
        out = np.memmap(tmp_path / "E", np.float32, "w+", shape=(1500, 200))
        result = fastrp(S, density=0.02, out=out, **self.options)
        assert result.embedding is out
        assert same_bits(np.asarray(out), expected)
        assert same_bits(fastrp(S, density=0.02, keep_powers=True, **self.options).embedding, expected)

    def test_components_do_not_see_each_other(self):
        first, second = scale_free(400, 4, seed=1), scale_free(300, 3, seed=2)
        edited = second.tolil()
        edited[3, 200] = edited[200, 3] = 7.0
        E, changed = (
            fastrp(sparse.block_diag([first, other], format="csr"), normalization=-0.5, rng=0).embedding
            for other in (second, edited)
        )
        assert same_bits(E[:400], changed[:400])
        assert not same_bits(E[400:], changed[400:])

    def test_unit_weights_are_no_weights(self, S):
        ones = sparse.csr_array((np.ones(S.nnz), S.indices, S.indptr), shape=S.shape)
        twos = 2 * ones
        assert same_bits(fastrp(ones, rng=1).embedding, fastrp(twos, rng=1).embedding)


def test_working_memory():
    import tracemalloc

    S = scale_free(60_000, 5).astype(np.float32)
    S.has_canonical_format  # noqa: B018
    fastrp(S, rng=0)
    tracemalloc.start()
    result = fastrp(S, rng=0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak <= 2.4 * result.embedding.nbytes


class TestResult:
    def test_fields(self):
        S = scale_free(300, 4)
        result = fastrp(S, n_components=32, rng=4)
        assert result.embedding.shape == np.asarray(result).shape == (300, 32)
        assert result.row_norms.shape == (2, 300)
        assert_allclose(result.density, 300**-0.5)
        assert result.seed == 4
        assert result.n_zero_rows == 0
        assert result.confidence == 0.95
        assert same_bits(
            fastrp(S, n_components=32, rng=result.seed, density=result.density).embedding, result.embedding
        )
        assert np.asarray(result, np.float64).dtype == np.float64
        assert fastrp(S, weights=(1,), rng=0).density == 1 / 3
        assert fastrp(S, self_weight=1, rng=0).density == 1 / 3
        assert fastrp(S, normalize_powers=False, rng=0).row_norms is None

    def test_generator_advances(self):
        S, rng = scale_free(50, 3), np.random.default_rng(0)
        first, second = fastrp(S, rng=rng), fastrp(S, rng=rng)
        assert first.seed != second.seed
        assert not same_bits(first.embedding, second.embedding)

    def test_trailing_zero_weights_are_free(self):
        S = scale_free(100, 3)
        assert same_bits(fastrp(S, weights=(0, 1, 0, 0), rng=0).embedding, fastrp(S, weights=(0, 1), rng=0).embedding)

    def test_zero_rows_warn(self):
        pairs = np.arange(0, 2000, 2), np.arange(1, 2000, 2)
        with pytest.warns(UserWarning, match="greater density"):
            result = fastrp(pairs, n_components=8, density=0.01, rng=0)
        assert result.n_zero_rows > 1000
        assert fastrp(pairs, n_components=8, density=0.5, rng=0).n_zero_rows < 100

    def test_walks_that_end(self):
        path = np.arange(5), np.arange(1, 6)
        with pytest.warns(UserWarning, match="walks end") as said:
            result = fastrp(path, directed=True, density=1.0, rng=0)
        assert result.n_zero_rows == 2  # of 3 and 4, which take one or two steps
        assert said[0].filename == __file__
        assert_array_equal(np.any(result.embedding, axis=1), [True, True, True, False, False, False])

    def test_no_edge(self):
        lonely = fastrp(sparse.csr_array((5, 5)), rng=0)
        assert lonely.n_zero_rows == 0
        assert_array_equal(lonely.embedding, 0)
        assert lonely.error == lonely.relative_error == 0.0

    def test_exponent_outside_warns(self):
        for exponent in (1.5, -1.01):
            with pytest.warns(UserWarning, match=r"\[-1, 1\]") as said:
                fastrp(scale_free(50, 3), normalization=exponent, density=1 / 3, rng=0)
            assert said[0].filename == __file__


BAD = {
    "not square": (ValueError, "square", np.ones((2, 3)), {}),
    "empty": (ValueError, "empty", sparse.csr_array((0, 0)), {}),
    "NaN": (ValueError, "finite", np.array([[0, np.nan], [1, 0]]), {}),
    "infinite": (ValueError, "finite", sparse.csr_array([[0, np.inf], [1, 0]]), {}),
    "negative": (ValueError, "≥ 0", np.array([[0, -1.0], [1, 0]]), {}),
    "beyond float32": (ValueError, "range", np.array([[0, 1e300], [1, 0]]), {}),
    "below float32": (ValueError, "divide", np.array([[0, 1e-42], [1, 0]]), {}),
    "complex": (TypeError, "real|number", np.array([[0, 1j], [1, 0]]), {}),
    "sparse vector": (ValueError, "2-d", sparse.coo_array(np.ones(3)), {}),
    "edges of two axes": (ValueError, "1-d", (np.zeros((2, 2), int), np.zeros((2, 2), int)), {}),
    "no graph": (TypeError, "adjacency must be", "graph", {}),
    "one array of edges": (ValueError, "tuple", (np.arange(3),), {}),
    "lengths": (ValueError, "one length", (np.arange(3), np.arange(4)), {}),
    "no integers": (TypeError, "integers", (np.arange(3.0), np.arange(3)), {}),
    "negative node": (ValueError, "numbers of nodes", (np.array([-1]), np.array([0])), {}),
    "node overflow": (ValueError, "numbers of nodes", (np.array([2**60]), np.array([0])), {}),
    "weights of edges": (ValueError, "weight", (np.array([0]), np.array([1]), np.array([-1.0])), {}),
    "number of weights": (ValueError, "weight", (np.array([0]), np.array([1]), np.ones(2)), {}),
    "no edge": (ValueError, "empty", (np.array([], int), np.array([], int)), {}),
    "node without id": (ValueError, "src", (np.array([5]), np.array([0])), {"node_ids": [1, 2]}),
    "n_components": (ValueError, "n_components", None, {"n_components": 0}),
    "n_components 2.0": (TypeError, "n_components", None, {"n_components": 2.0}),
    "no weights": (ValueError, "weights", None, {"weights": ()}),
    "zero weights": (ValueError, "weights", None, {"weights": (0, 0)}),
    "NaN weights": (ValueError, "weights", None, {"weights": (1, np.nan)}),
    "one weight": (ValueError, "weights", None, {"weights": 1.0}),
    "ragged weights": (ValueError, "weights must be a sequence", None, {"weights": [[1], [1, 2]]}),
    "overflowing weights": (ValueError, "weights", None, {"weights": [1e300]}),
    "self_weight": (ValueError, "self_weight", None, {"self_weight": np.inf}),
    "overflowing self_weight": (ValueError, "self_weight", None, {"self_weight": 1e39}),
    "sums beyond float32": (ValueError, "range of float32", np.full((4, 4), 3e38), {}),
    "sums beyond float64": (ValueError, "range of float64", np.full((4, 4), 1.7e308), {"dtype": np.float64}),
    "density": (ValueError, "density", None, {"density": 2}),
    "density 0": (ValueError, "density", None, {"density": 0.0}),
    "density word": (TypeError, "density", None, {"density": "much"}),
    "projection": (ValueError, "projection", None, {"projection": "dense"}),
    "normalization": (ValueError, "normalization", None, {"normalization": np.inf}),
    "ids twice": (ValueError, "distinct", None, {"node_ids": [0, 1, 1]}),
    "ids negative": (ValueError, "negative", None, {"node_ids": [0, 1, -1]}),
    "too few ids": (ValueError, "3 nodes", None, {"node_ids": [0, 1]}),
    "rng": (TypeError, "rng", None, {"rng": 1.5}),
    "dtype": (ValueError, "dtype", None, {"dtype": "int8"}),
    "dtype word": (ValueError, "dtype", None, {"dtype": "half a float"}),
    "dtype None": (ValueError, "dtype", None, {"dtype": None}),
    "normalization out of range": (ValueError, "range of float32", np.diag([1, 1, 1e12]), {"normalization": -9.0}),
    "features": (ValueError, "features", None, {"features": np.ones((2, 2))}),
    "feature_weight": (ValueError, "feature_weight", None, {"features": np.ones((3, 2)), "feature_weight": 2}),
    "feature_weight alone": (ValueError, "feature_weight", None, {"feature_weight": -0.1}),
    "NaN features": (ValueError, "features", None, {"features": np.full((3, 2), np.nan)}),
    "max_memory": (TypeError, "max_memory", None, {"max_memory": 1e9}),
    "out shape": (ValueError, "out", None, {"out": np.empty((3, 4), np.float32)}),
    "out dtype": (ValueError, "out", None, {"out": np.empty((3, 128))}),
    "out kind": (TypeError, "out", None, {"out": [1]}),
}


@pytest.mark.filterwarnings("ignore:normalization")
@pytest.mark.parametrize("case", BAD)
def test_bad_input(case):
    error, text, adjacency, options = BAD[case]
    with pytest.raises(error, match=text):
        fastrp(np.ones((3, 3)) if adjacency is None else adjacency, **options)
