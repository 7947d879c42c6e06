"""The embedding as a scikit-learn transformer; the generic checks are in tests/test_estimators.py."""

import warnings

import numpy as np
import pytest
from embedding.graphs import blocks, same_bits, scale_free
from scipy import sparse
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from linalg_ml.embedding import FastRP, fastrp


def test_is_the_function():
    S = scale_free(200, 4)
    model = FastRP(n_components=32, normalization=-0.5, random_state=3).fit(S)
    assert same_bits(model.embedding_, fastrp(S, n_components=32, normalization=-0.5, rng=3).embedding)
    assert same_bits(model.transform(S), model.embedding_)
    assert same_bits(model.transform(S[:7]), model.result_.transform(S[:7]))
    assert model.n_features_in_ == 200
    assert model.result_.error > 0


def test_features_and_graphs():
    nx = pytest.importorskip("networkx")
    G = nx.karate_club_graph()
    X = np.random.default_rng(0).random((34, 3))
    model = FastRP(16, feature_weight=0.3, random_state=0).fit(G, features=X)
    assert same_bits(model.embedding_, fastrp(G, n_components=16, features=X, feature_weight=0.3, rng=0).embedding)
    assert model.n_features_in_ == 34
    assert model.transform(sparse.csr_array((2, 34))).shape == (2, 16)


def test_classifies_blocks_in_a_pipeline():
    S, labels = blocks(400, 4, inside=0.1)
    E = FastRP(64, random_state=0).set_output(transform="pandas").fit_transform(S)
    assert E.columns[63] == "fastrp63"
    model = make_pipeline(StandardScaler(), LogisticRegression())
    assert cross_val_score(model, E, labels, cv=3).mean() > 0.9


def test_cross_validation_slices_both_axes():
    S, labels = blocks(300, 3, inside=0.15)
    model = make_pipeline(FastRP(32, random_state=0), StandardScaler(), LogisticRegression())
    assert cross_val_score(model, S.toarray(), labels, cv=3).mean() > 0.8


def test_bad_input():
    with pytest.raises(ValueError, match="square"):
        FastRP().fit(np.ones((3, 4)))
    with pytest.raises(ValueError, match="features"):
        FastRP(random_state=0).fit(np.ones((3, 3))).transform(np.ones((2, 4)))


def test_a_tuple_is_a_list_of_edges():
    """Two arrays of two nodes are no matrix of two rows."""
    for edges in ((np.array([0, 1]), np.array([1, 2])), ([0, 1], [1, 2], [1.0, 1.0])):
        model = FastRP(8, density=1.0, random_state=0).fit(edges)
        assert same_bits(model.embedding_, fastrp(edges, n_components=8, density=1.0, rng=0).embedding)
        assert model.n_features_in_ == 3
        assert model.transform(np.ones((1, 3))).shape == (1, 8)


def test_a_second_fit_forgets_names():
    pd = pytest.importorskip("pandas")
    names = ["a", "b", "c"]
    model = FastRP(8, density=1.0, random_state=0).fit(pd.DataFrame(np.ones((3, 3)), columns=names))
    assert model.feature_names_in_.tolist() == names
    model.fit(([0, 1], [1, 2]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert model.transform(np.ones((1, 3))).shape == (1, 8)
