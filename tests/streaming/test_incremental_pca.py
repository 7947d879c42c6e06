"""scikit-learn's own tests of IncrementalPCA, with StreamingPCA in its place."""

import inspect

import pytest

from linalg_ml.streaming import StreamingPCA

theirs = pytest.importorskip("sklearn.decomposition.tests.test_incremental_pca")

# What is not run, and why.
OTHERWISE = {
    "test_incremental_pca_sparse": "it wants a TypeError from partial_fit of sparse rows, which are accepted",
    "test_incremental_pca_validation": "it wants the text of their error, and refuses first portions of few rows",
}
NAMES = sorted(name for name in vars(theirs) if name.startswith("test_"))


class IncrementalPCA(StreamingPCA):
    """StreamingPCA as scikit-learn's class is called; the portions of `fit` do not matter."""

    def __init__(self, n_components=None, *, whiten=False, batch_size=None, random_state=0):
        super().__init__(n_components, whiten=whiten, random_state=random_state)
        self.batch_size = batch_size


def test_all_exceptions_are_theirs():
    assert set(OTHERWISE) <= set(NAMES)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in OTHERWISE])
def test_in_place_of_incremental_pca(name, monkeypatch):
    monkeypatch.setattr(theirs, "IncrementalPCA", IncrementalPCA)
    test = getattr(theirs, name)
    seed = {"global_random_seed": 42} if "global_random_seed" in inspect.signature(test).parameters else {}
    test(**seed)


def test_sparse_rows_in_portions():
    rows = theirs.iris.data
    pca = (
        IncrementalPCA(2)
        .partial_fit(theirs.CSR_CONTAINERS[0](rows[:99]))
        .partial_fit(theirs.CSR_CONTAINERS[0](rows[99:]))
    )
    expected = theirs.PCA(2).fit(rows).explained_variance_ratio_
    theirs.assert_allclose(pca.explained_variance_ratio_, expected)
