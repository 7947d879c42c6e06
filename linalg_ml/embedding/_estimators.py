"""scikit-learn estimators of the embedding wing."""

from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from .._core.arrays import Array
from .._core.random import key_of
from ._fastrp import fastrp


class FastRP(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Embed the nodes of a graph by very sparse random projection.

    The estimator of `fastrp`: a graph in, a vector for each node out, in float32.

    Parameters
    ----------
    n_components : int, default 128
        Length of the vectors.
    weights : sequence of float, default (0, 0, 1, 1)
        Weights of the powers 1, 2, ….
    self_weight : float, default 0
        Weight of power 0, the node itself.
    normalization : float, default 0
        Exponent of the degrees, usually in [-1, 1].
    projection : {"sparse", "gaussian"}, default "sparse"
        Kind of the random projection.
    density : float in (0, 1] or "auto", default "auto"
        Share of entries of the sparse projection that are not zero, see `fastrp`.
    normalize_powers : bool, default True
        Divide the rows of each power by their length before they are added.
    feature_weight : float in [0, 1], default 0.5
        Share of the features, where `fit` is given any.
    max_memory : int, optional
        Bytes of working arrays.
    random_state : None, int, numpy.random.Generator or numpy.random.RandomState, optional
        Randomness.
    verbose : bool, default False
        Show progress.

    Attributes
    ----------
    embedding_ : ndarray of float32, shape (n_samples, n_components)
        A vector for each node.
    result_ : FastRPResult
        With the error, ``transform`` for new nodes with edges among each other, and ``update`` for edited edges.
    n_features_in_ : int
        Number of nodes.
    feature_names_in_ : ndarray of shape (n_samples,)
        Names of the columns of the adjacency, where all of them are strings.

    Raises
    ------
    ValueError
        If the adjacency is not square or has negative or infinite weights, or a parameter is out of range.
    TypeError
        If a parameter is of the wrong type.

    See Also
    --------
    fastrp : the function.
    tune : search for `weights` and `normalization`.

    Notes
    -----
    The adjacency is a matrix of nodes by nodes, dense or sparse, with weights ≥ 0; columns are nodes, so that the
    estimator is pairwise. `fit` also takes a networkx or igraph graph, and a tuple (src, dst) or (src, dst, weight)
    of arrays, which is a list of undirected edges, as in `fastrp`. For regularised classifiers put a
    `StandardScaler` behind it. ``result_.relative_error`` bounds the error of inner products, with probability 0.95.
    Time and memory: see `fastrp`.

    References
    ----------
    .. [1] H. Chen, S. F. Sultan, Y. Tian, M. Chen, S. Skiena, "Fast and accurate network embeddings via very sparse
       random projection", CIKM 2019.

    Examples
    --------
    >>> import networkx as nx
    >>> from linalg_ml.embedding import FastRP
    >>> S = nx.to_scipy_sparse_array(nx.karate_club_graph())
    >>> model = FastRP(n_components=16, random_state=0)
    >>> model.fit_transform(S).shape
    (34, 16)
    >>> model.transform(S[:2]).shape  # two new nodes with the edges of the first two
    (2, 16)
    """

    def __init__(
        self,
        n_components=128,
        *,
        weights=(0.0, 0.0, 1.0, 1.0),
        self_weight=0.0,
        normalization=0.0,
        projection="sparse",
        density="auto",
        normalize_powers=True,
        feature_weight=0.5,
        max_memory=None,
        random_state=None,
        verbose=False,
    ):
        self.n_components = n_components
        self.weights = weights
        self.self_weight = self_weight
        self.normalization = normalization
        self.projection = projection
        self.density = density
        self.normalize_powers = normalize_powers
        self.feature_weight = feature_weight
        self.max_memory = max_memory
        self.random_state = random_state
        self.verbose = verbose

    def __sklearn_tags__(self):
        """Return the tags: a square matrix of weights ≥ 0, dense or sparse; float32 comes out."""
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.input_tags.pairwise = True
        tags.input_tags.positive_only = True
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags

    def fit(self, X: Any, y: Any = None, *, features: Any = None) -> Self:
        """Embed the nodes of a graph.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_samples), graph, or tuple of arrays
            Adjacency, a row for each node, or what stands for it.
        y : object, optional
            Ignored.
        features : array-like or sparse matrix of shape (n_samples, n_properties), optional
            Properties of the nodes.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        names = (
            "n_components", "weights", "self_weight", "normalization", "projection", "density", "normalize_powers",
            "feature_weight", "max_memory", "verbose",
        )  # fmt: skip
        settings = {name: getattr(self, name) for name in names}
        if not _is_graph(X):
            X = self._validated(X, reset=True)
        key = key_of(self.random_state, "random_state")
        self.result_ = fastrp(X, features=features, rng=key, **settings)
        self.embedding_ = self.result_.embedding
        if _is_graph(X):
            self.n_features_in_ = self.embedding_.shape[0]
            self.__dict__.pop("feature_names_in_", None)  # of a fit before
        return self

    def fit_transform(self, X: Any, y: Any = None, *, features: Any = None) -> Array:
        """Embed the nodes of a graph and return their vectors.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_samples), graph, or tuple of arrays
            Adjacency, a row for each node, or what stands for it.
        y : object, optional
            Ignored.
        features : array-like or sparse matrix of shape (n_samples, n_properties), optional
            Properties of the nodes.

        Returns
        -------
        embedding : ndarray of float32, shape (n_samples, n_components)
            A vector for each node.
        """
        return self.fit(X, y, features=features).embedding_

    def transform(self, X: Any) -> Array:
        """Embed new nodes from their edges to those of `fit`.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_new, n_samples)
            Weights ≥ 0 of the edges from new nodes to fitted ones. The adjacency of `fit` gives the embedding again, if
            `self_weight` is 0. For edges among new nodes, and for features of theirs, use ``result_.transform``.

        Returns
        -------
        embedding : ndarray of float32, shape (n_new, n_components)
            A vector for each new node.
        """
        check_is_fitted(self)
        return self.result_.transform(self._validated(X, reset=False))

    @property
    def _n_features_out(self) -> int:
        return self.embedding_.shape[1]

    def _validated(self, X: Any, *, reset: bool) -> Any:
        kinds = [np.float64, np.float32]
        return validate_data(self, X, reset=reset, accept_sparse="csr", dtype=kinds, ensure_non_negative=True)


def _is_graph(X: Any) -> bool:
    """Tell lists of edges and graphs of networkx and igraph, which know how to count their nodes, from matrices."""
    return isinstance(X, tuple) or hasattr(X, "number_of_nodes") or hasattr(X, "vcount")
