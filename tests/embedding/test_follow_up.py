"""New nodes and edited edges: bit for bit what a new fit gives."""

import numpy as np
import pytest
from embedding.graphs import same_bits, scale_free
from scipy import sparse

from linalg_ml.embedding import fastrp

pytestmark = pytest.mark.filterwarnings("ignore:.*rows of zeros")

OPTIONS = {"n_components": 64, "weights": (0, 0, 1, 4), "normalization": -0.5, "density": 1 / 50, "rng": 5}


@pytest.fixture(scope="module")
def S():
    return scale_free(3000, 4)


@pytest.fixture(scope="module")
def features():
    X = np.random.default_rng(1).standard_normal((3030, 7))
    X[::3, 2] = 0
    return X


@pytest.fixture(scope="module")
def new():
    rng = np.random.default_rng(2)
    B = sparse.random_array((30, 3000), density=0.001, rng=rng, format="csr")
    return B, sparse.random_array((30, 30), density=0.1, rng=rng, format="csr")


def augmented(S, B, C):
    nothing = sparse.csr_array((S.shape[0], B.shape[0]))
    C = sparse.csr_array((B.shape[0],) * 2) if C is None else C
    return sparse.vstack([sparse.hstack([S, nothing]), sparse.hstack([B, C])], format="csr")


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("self_weight", [0.0, 0.5])
@pytest.mark.parametrize("with_features", [True, False])
class TestTransform:
    def test_equals_a_fit_with_the_new_nodes(self, S, new, features, keep, self_weight, with_features):
        B, C = new
        options = {**OPTIONS, "self_weight": self_weight}
        result = fastrp(S, keep_powers=keep, features=features[:3000] if with_features else None, **options)
        for among in (None, C):
            fresh = fastrp(augmented(S, B, among), features=features if with_features else None, **options)
            got = result.transform(B, among, features=features[3000:] if with_features else None)
            assert same_bits(got, fresh.embedding[3000:])
            assert same_bits(result.embedding, fresh.embedding[:3000])


@pytest.mark.parametrize(
    "kind", [{"projection": "gaussian"}, {"density": 1 / 3}, {"normalize_powers": False, "normalization": 0.0}], ids=str
)
@pytest.mark.parametrize("keep", [True, False])
def test_other_projections(kind, keep):
    """Dense first panels, and powers that are not normalised."""
    S, options = scale_free(400, 4), {**OPTIONS, "n_components": 20, **kind}
    rng = np.random.default_rng(2)
    B = sparse.random_array((9, 400), density=0.02, rng=rng, format="csr")
    result = fastrp(S, keep_powers=keep, **options)
    assert same_bits(result.transform(B), fastrp(augmented(S, B, None), **options).embedding[400:])
    T = S.tolil()
    T[1, 2] = T[2, 1] = 4.0
    assert same_bits(result.update([1], [2], 4.0).embedding, fastrp(T.tocsr(), **options).embedding)


def test_levels_of_new_nodes_are_those_of_the_fit(S, new):
    """Without normalised powers the sum of all weights shows; it stays that of the fitted graph."""
    B, options = new[0], {**OPTIONS, "normalize_powers": False, "n_components": 16}
    fresh = fastrp(augmented(S, B, None), **options).embedding[3000:]
    factor = ((S.sum() + B.sum()) / S.sum()) ** 0.5
    np.testing.assert_allclose(
        fastrp(S, **options).transform(B) * factor, fresh, rtol=1e-4, atol=1e-6 * abs(fresh).max()
    )


@pytest.mark.parametrize("keep", [True, False])
def test_zero_rows_after_an_update(keep):
    pairs = np.arange(0, 400, 2), np.arange(1, 400, 2)
    options = {"n_components": 8, "density": 0.01, "rng": 0}
    result = fastrp(pairs, keep_powers=keep, **options)
    with pytest.warns(UserWarning, match="rows of zeros") as said:
        updated = result.update([0], [1], 0.0)
    assert said[0].filename == __file__
    assert result.n_zero_rows - 2 <= updated.n_zero_rows <= result.n_zero_rows


@pytest.mark.parametrize("keep", [True, False])
def test_nodes_that_lose_all_edges(keep):
    """No row that is recomputed has a neighbour."""
    pairs = np.arange(0, 40, 2), np.arange(1, 40, 2)
    for features in (None, np.ones((40, 2))):
        options = {"n_components": 8, "density": 1.0, "features": features, "rng": 0}
        updated = fastrp(pairs, keep_powers=keep, **options).update([0], [1], 0.0)
        shorter = fastrp((pairs[0][1:], pairs[1][1:]), node_ids=np.arange(40), **options)
        assert same_bits(updated.embedding, shorter.embedding)
        assert not updated.embedding[:2].any()
        assert not updated.transform(sparse.csr_array((3, 40))).any()


class TestTransformInput:
    @pytest.fixture
    def result(self, S):
        return fastrp(S, **OPTIONS)

    def test_the_graph_itself(self, S, result):
        assert same_bits(result.transform(S), result.embedding)
        assert same_bits(result.transform(S[:5].toarray()), result.embedding[:5])

    def test_ids(self, S, new, result):
        B, C = new
        ids = np.arange(30) + 10**12
        fresh = fastrp(augmented(S, B, C), node_ids=np.r_[np.arange(3000), ids], **OPTIONS)
        assert same_bits(result.transform(B, C, node_ids=ids), fresh.embedding[3000:])
        with pytest.raises(ValueError, match="ids of known nodes"):
            result.transform(B, node_ids=np.arange(30))
        with pytest.raises(ValueError, match="node_ids"):
            result.transform(B, node_ids=np.arange(3000, 3005))
        elsewhere = fastrp(S, node_ids=np.arange(3000) + 5000, **OPTIONS)
        assert elsewhere.transform(B).shape == (30, 64)  # nothing asks for theirs
        with pytest.raises(ValueError, match="node_ids of the new nodes are needed"):
            elsewhere.transform(B, C)

    def test_bad_input(self, S, new, features, result):
        B, C = new
        for wrong in (B[:, :5], -B, B * np.nan, np.ones(3000)):
            with pytest.raises(ValueError, match="B"):
                result.transform(wrong)
        with pytest.raises(ValueError, match="new_edges"):
            result.transform(B, C[:5])
        mixed = fastrp(S, features=features[:3000], **OPTIONS)
        assert mixed.transform(B).shape == (30, 64)  # nothing asks for them
        with pytest.raises(ValueError, match="features"):
            mixed.transform(B, C)
        with pytest.raises(ValueError, match="features"):
            mixed.transform(B, features=features[3000:, :3])


def ring(n):
    return np.arange(n), (np.arange(n) + 1) % n


EDITS = {
    "weights": ([3, 100, 2999, 3], [50, 7, 0, 50], [1.0, 2.5, 0.0, 0.25]),
    "new edges": ([1], [2], None),
    "isolate": ([0, 0], [1, 2], 0.0),
    "self-loop": ([5], [5], 2.0),
    "nothing": ([0], [1], 1.0),
    "no edge": ([], [], None),
}


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("directed", [True, False])
@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("graph", ["scale-free", "ring"])
class TestUpdate:
    def test_equals_a_fit_of_the_edited_graph(self, S, keep, directed, edit, graph):
        S = fastrp(ring(3000))._fitted.graph.to_scipy(float) if graph == "ring" else S
        src, dst, weight = EDITS[edit]
        T = S.tolil()
        for u, v, w in zip(src, dst, np.broadcast_to(1.0 if weight is None else weight, len(src)), strict=True):
            T[u, v] = w
            if not directed:
                T[v, u] = w
        for normalize, self_weight in ((True, 0.5), (False, 0.0)):
            options = {**OPTIONS, "normalize_powers": normalize, "self_weight": self_weight, "n_components": 16}
            result = fastrp(S, keep_powers=keep, **options)
            before = result.embedding.copy()
            updated = result.update(src, dst, weight, directed=directed)
            assert same_bits(updated.embedding, fastrp(T.tocsr(), **options).embedding)
            assert same_bits(result.embedding, before)


def test_updates_add_up(S):
    result = fastrp(S, keep_powers=True, **OPTIONS)
    twice = result.update([1], [2]).update([1], [2], 0.0).update([5], [9], 3.0)
    once = result.update([1, 5], [2, 9], [S[1, 2], 3.0])
    assert same_bits(twice.embedding, once.embedding)
    np.testing.assert_array_equal(twice.row_norms, once.row_norms)
    assert twice.transform(S).shape == (3000, 64)


def test_update_with_features(S, features):
    result = fastrp(S, keep_powers=True, features=features[:3000], **OPTIONS)
    T = S.tolil()
    T[1, 2] = T[2, 1] = 4.0
    updated, fresh = result.update([1], [2], 4.0), fastrp(T.tocsr(), features=features[:3000], **OPTIONS)
    assert same_bits(updated.embedding, fresh.embedding)


def test_update_is_local():
    from linalg_ml.embedding import _update

    result = fastrp(ring(5000), keep_powers=True, **OPTIONS)
    graph, touched = _update.edited(result._fitted.graph, [10], [11], 5.0, False)
    assert touched.tolist() == [10, 11]
    assert graph.symmetric
    updated = result.update([10], [11], 5.0)
    changed = np.flatnonzero(np.any(updated.embedding != result.embedding, axis=1))
    assert 2 <= changed.size <= 12


def test_bad_updates(S):
    result = fastrp(S, **OPTIONS)
    for arguments, text in (
        (([3000], [0]), "src"), (([0], [-1]), "dst"), (([0], [1, 2]), "one length"), (([0], [1], -1.0), "weight"),
        (([0], [1], np.nan), "weight"), (([0], [1], [1.0, 2.0]), "weight"), (([0], [1], 1e300), "weight"),
        (([0], [1], 3e38), "add up"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=text):
            result.update(*arguments)
    with pytest.raises(TypeError, match="src"):
        result.update([0.5], [1])
