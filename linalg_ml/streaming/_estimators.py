"""scikit-learn estimators of the streaming wing."""

from abc import abstractmethod
from typing import Any, Self

import numpy as np
from array_api_compat import array_namespace, is_numpy_array
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from .._core.arrays import Array, cast, check_int, compute_dtype, is_sparse, like, namespace, to_numpy
from .._core.estimators import check_namespace, remember_namespace
from .._core.random import key_of
from ._result import TopEigenvectorResult
from ._stream import TopEigenvectorStream


class _Streaming(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """What both estimators do: feed a stream, and project on its directions."""

    _stream: TopEigenvectorStream

    def __sklearn_tags__(self):
        """Return the tags: sparse input and array-API input are accepted, float32 and float64 are kept."""
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.array_api_support = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Forget what was seen, and fit to these rows.

        Parameters
        ----------
        X : array-like or CSR matrix of shape (n_samples, n_features)
            The rows.
        y : None
            Ignored.
        sample_weight : array-like of shape (n_samples,), optional
            Weights ≥ 0.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        for name in ("_stream", "_answers", "n_samples_seen_"):
            self.__dict__.pop(name, None)
        return self.partial_fit(X, sample_weight=sample_weight)

    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Take in more rows, any number of them, from the first call on.

        Parameters
        ----------
        X : array-like or CSR matrix of shape (n_samples, n_features)
            The next rows.
        y : None
            Ignored.
        sample_weight : array-like of shape (n_samples,), optional
            Weights ≥ 0.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        first = "_stream" not in self.__dict__
        if not first and sample_weight is None and self._taken(X):
            self._changed()
            return self
        X = self._validated(X, reset=first)
        if first:
            remember_namespace(self, X)
            self._stream = self._new_stream(X)
        else:
            check_namespace(self, X, "partial_fit")
        if sample_weight is not None:
            sample_weight = to_numpy(_check_sample_weight(sample_weight, X))
            if not sample_weight.any():
                raise ValueError("sample_weight is zero for all samples: none of them would count")
        try:
            self._stream.update(X, sample_weight)
        finally:
            if not self._stream.n_rows:  # refused: the next portion is the first
                del self._stream
        self._changed()
        return self

    def _taken(self, X: Any) -> bool:
        """Take a few rows like those before without scikit-learn's checks, which take longer than the rows."""
        plain = type(X) is np.ndarray and X.ndim == 2 and not hasattr(self, "feature_names_in_")
        return plain and self._stream._taken(X)

    def _changed(self) -> None:
        self.n_samples_seen_ = self._stream.n_rows
        self._answers: list[TopEigenvectorResult] = []

    def _validated(self, X: Any, *, reset: bool) -> Any:
        X = validate_data(self, X, accept_sparse="csr", reset=reset, ensure_all_finite=False)
        return cast(X, compute_dtype(X.dtype, "X", complex_ok=False))

    def _checked(self, X: Any, method: str) -> Any:
        X = validate_data(self, X, accept_sparse="csr", reset=False)
        check_namespace(self, X, method)
        return cast(X, compute_dtype(X.dtype, "X", complex_ok=False))

    @abstractmethod
    def _new_stream(self, X: Any) -> TopEigenvectorStream:
        """Return an empty stream for rows like these."""

    @property
    def _result(self) -> TopEigenvectorResult:
        """The answer for the rows seen so far, formed when it is first asked for."""
        check_is_fitted(self, "n_samples_seen_")
        if not self._answers:
            self._answers.append(self._stream.result())
        return self._answers[0]

    def __sklearn_is_fitted__(self):
        """Tell whether rows were seen."""
        return "n_samples_seen_" in self.__dict__

    @property
    def error_(self) -> float:
        """Bound on 1 - <v, v₁>² for the leading direction."""
        return self._result.error

    @property
    def heavy_indices_(self) -> np.ndarray:
        """Places of the rows that were kept aside."""
        return self._result.heavy_indices

    @property
    def _n_features_out(self) -> int:
        return self._result.components.shape[0]

    def merge(self, other: Any) -> Self:
        """Take in what another estimator of the same settings has seen.

        Parameters
        ----------
        other : object
            Fitted, of the same class and settings; it is not changed.

        Returns
        -------
        self : object
            This estimator.
        """
        if type(other) is not type(self):
            raise TypeError(f"other must be a {type(self).__name__}, got {type(other).__name__}")
        check_is_fitted(self)
        check_is_fitted(other)
        self._stream.merge(other._stream)
        self._changed()
        return self


class StreamingPCA(_Streaming):
    """Principal components of rows that arrive in any portions, in memory that does not grow.

    In place of scikit-learn's `IncrementalPCA`: faster and far more accurate on rows in random order, with portions of
    any size, one row and the first portion included, sparse rows, weights, and an error.

    Parameters
    ----------
    n_components : int or None, default 1
        Number of components; None: as many as the first portion allows, min(n_samples, n_features).
    center : bool, default True
        Take rows about their mean, which is exact in one pass.
    whiten : bool, default False
        Give components unit variance in `transform`.
    method : {"auto", "subspace", "random-order", "oja", "frequent-directions", "exact"}, default "auto"
        As in `top_eigenvector`.
    order : {"random", "arbitrary"}, default "random"
        "arbitrary" guards against sorted rows.
    n_oversamples : int, default 7
        Directions tracked beyond `n_components`.
    block_size : int, default 128
        Rows of a block; the result depends on it, not on the portions.
    max_heavy : int, default 64
        Rows of largest norm that are kept aside.
    forget : float in (0, 1], default 1.0
        Weight of a block relative to the next.
    random_state : None, int, numpy.random.Generator or numpy.random.RandomState, optional
        Random directions where data give none.

    Attributes
    ----------
    components_ : ndarray of shape (n_components, n_features)
        Principal directions, orthonormal, most variance first.
    explained_variance_ : ndarray of shape (n_components,)
        Variance along each.
    explained_variance_ratio_ : ndarray of shape (n_components,)
        Share of the total variance.
    singular_values_ : ndarray of shape (n_components,)
        Singular values of the centred rows.
    mean_ : ndarray of shape (n_features,)
        Mean of the rows; zeros if not `center`.
    noise_variance_ : float
        Mean variance along all other directions.
    error_ : float
        Bound on 1 - <v, v₁>² for the first component; held in 95 % of random-order streams in tests.
    heavy_indices_ : ndarray
        Places, in the order of arrival, of the rows that were kept aside.
    n_samples_seen_ : int
        Rows seen.
    n_components_ : int
        Number of components.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features, where all of them are strings.

    Raises
    ------
    ValueError
        If `n_components` exceeds the number of features, or a setting is out of range.

    See Also
    --------
    TopEigenvectorStream : what is behind it.
    sklearn.decomposition.IncrementalPCA : scikit-learn's.

    Notes
    -----
    See `top_eigenvector` for guarantees and cost. `fit` is `partial_fit` on a fresh estimator: the result is the same
    for every cut of the rows into portions.

    References
    ----------
    .. [1] P. Kacham, D. P. Woodruff, "Approximating the top eigenvector in random order streams", NeurIPS 2024.
    .. [2] D. A. Ross, J. Lim, R.-S. Lin, M.-H. Yang, "Incremental learning for robust visual tracking", IJCV 77 (2008).

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from linalg_ml.streaming import StreamingPCA
    >>> X = load_digits().data
    >>> pca = StreamingPCA(n_components=2, random_state=0)
    >>> for portion in range(0, len(X), 500):
    ...     pca = pca.partial_fit(X[portion : portion + 500])
    >>> pca.explained_variance_ratio_.round(4)
    array([0.1489, 0.1362])
    >>> pca.transform(X).shape
    (1797, 2)
    """

    def __init__(
        self,
        n_components=1,
        *,
        center=True,
        whiten=False,
        method="auto",
        order="random",
        n_oversamples=7,
        block_size=128,
        max_heavy=64,
        forget=1.0,
        random_state=None,
    ):
        self.n_components = n_components
        self.center = center
        self.whiten = whiten
        self.method = method
        self.order = order
        self.n_oversamples = n_oversamples
        self.block_size = block_size
        self.max_heavy = max_heavy
        self.forget = forget
        self.random_state = random_state

    def _new_stream(self, X: Any) -> TopEigenvectorStream:
        n_samples, n_features = X.shape
        k = min(n_samples, n_features) if self.n_components is None else self.n_components
        self.n_components_ = check_int(k, "n_components", 1, n_features, "the number of features")
        return TopEigenvectorStream(
            n_features, n_components=self.n_components_, method=self.method, order=self.order, center=self.center,
            n_oversamples=self.n_oversamples, block_size=self.block_size, max_heavy=self.max_heavy,
            rng=key_of(self.random_state, "random_state"), forget=self.forget,
        )  # fmt: skip

    @property
    def components_(self) -> Array:
        """Principal directions."""
        return self._result.components

    @property
    def mean_(self) -> Array:
        """Mean of the rows."""
        mean = self._result.mean
        return mean if mean is not None else namespace(self.components_).zeros_like(self.components_[0, :])

    @property
    def _freedom(self) -> int:
        return max(1, self.n_samples_seen_ - 1)

    @property
    def explained_variance_(self) -> np.ndarray:
        """Variance along each component."""
        return self._result.values / self._freedom

    @property
    def explained_variance_ratio_(self) -> np.ndarray:
        """Share of the total variance."""
        total = self._result.frobenius_sq
        return self._result.values / total if total else np.zeros_like(self._result.values)

    @property
    def singular_values_(self) -> np.ndarray:
        """Singular values."""
        return np.sqrt(self._result.values)

    @property
    def noise_variance_(self) -> float:
        """Mean variance along all other directions."""
        rest = self.n_features_in_ - self.n_components_
        left = max(0.0, self._result.frobenius_sq - float(self._result.values.sum()))
        return left / self._freedom / rest if rest else 0.0

    def transform(self, X: Any) -> Array:
        """Project rows on the components.

        Parameters
        ----------
        X : array-like or CSR matrix of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        Y : array of shape (n_samples, n_components)
            Their coordinates.
        """
        result = self._result
        X = self._checked(X, "transform")
        V = cast(result.components, _name(X))
        Y = _times(X, V)
        if result.mean is not None:
            xp = namespace(Y)
            Y = Y - xp.matmul(V, cast(result.mean, _name(X)))
        if self.whiten:
            Y = Y / like(self._spread, Y, _name(Y))
        return Y

    def inverse_transform(self, X: Any) -> Array:
        """Return rows from coordinates.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_components)
            Coordinates.

        Returns
        -------
        rows : array of shape (n_samples, n_features)
            The nearest rows that the components span.
        """
        result = self._result
        Y = X if hasattr(X, "shape") else np.asarray(X, np.float64)
        if is_numpy_array(Y):
            Y = np.asarray(Y, result.components.dtype)
        if self.whiten:
            Y = Y * like(self._spread, Y, _name(Y))
        rows = namespace(Y).matmul(Y, cast(result.components, _name(Y)))
        return rows if result.mean is None else rows + cast(result.mean, _name(Y))

    @property
    def _spread(self) -> np.ndarray:
        """Standard deviations, one where there is none."""
        spread = np.sqrt(self.explained_variance_)
        return np.where(spread > 0, spread, 1.0)


class TopEigenvector(_Streaming):
    """The leading eigenvector of XᵀX for rows that arrive in any portions; not centred.

    Parameters
    ----------
    method : {"auto", "subspace", "random-order", "oja", "frequent-directions", "exact"}, default "auto"
        As in `top_eigenvector`.
    order : {"random", "arbitrary"}, default "random"
        "arbitrary" guards against sorted rows.
    n_oversamples : int, default 7
        Directions tracked beyond the first.
    block_size : int, default 128
        Rows of a block; the result depends on it, not on the portions.
    max_heavy : int, default 64
        Rows of largest norm that are kept aside.
    forget : float in (0, 1], default 1.0
        Weight of a block relative to the next.
    random_state : None, int, numpy.random.Generator or numpy.random.RandomState, optional
        Random directions where data give none.

    Attributes
    ----------
    eigenvector_ : ndarray of shape (n_features,)
        The leading direction v.
    eigenvalue_ : float
        Its eigenvalue.
    components_ : ndarray of shape (1, n_features)
        The same direction as a row.
    error_ : float
        Bound on 1 - <v, v₁>²; held in 95 % of random-order streams in tests.
    heavy_indices_ : ndarray
        Places, in the order of arrival, of the rows that were kept aside.
    n_samples_seen_ : int
        Rows seen.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features, where all of them are strings.

    Raises
    ------
    ValueError
        If a setting is out of range.

    See Also
    --------
    StreamingPCA : several components, centred.

    Notes
    -----
    See `top_eigenvector` for guarantees and cost.

    References
    ----------
    .. [1] P. Kacham, D. P. Woodruff, "Approximating the top eigenvector in random order streams", NeurIPS 2024.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from linalg_ml.streaming import TopEigenvector
    >>> X = load_digits().data
    >>> top = TopEigenvector(random_state=0).fit(X)
    >>> round(float(top.eigenvalue_ / (X**2).sum()), 4), top.error_ < 1e-9
    (0.6964, True)
    """

    def __init__(
        self,
        *,
        method="auto",
        order="random",
        n_oversamples=7,
        block_size=128,
        max_heavy=64,
        forget=1.0,
        random_state=None,
    ):
        self.method = method
        self.order = order
        self.n_oversamples = n_oversamples
        self.block_size = block_size
        self.max_heavy = max_heavy
        self.forget = forget
        self.random_state = random_state

    def _new_stream(self, X: Any) -> TopEigenvectorStream:
        return TopEigenvectorStream(
            X.shape[1], method=self.method, order=self.order, n_oversamples=self.n_oversamples,
            block_size=self.block_size, max_heavy=self.max_heavy, rng=key_of(self.random_state, "random_state"),
            forget=self.forget,
        )  # fmt: skip

    @property
    def eigenvector_(self) -> Array:
        """The leading direction."""
        return self._result.vector

    @property
    def eigenvalue_(self) -> float:
        """Its eigenvalue."""
        return self._result.value

    @property
    def components_(self) -> Array:
        """The leading direction as a row."""
        return self._result.components

    def transform(self, X: Any) -> Array:
        """Return the coordinate of rows along the direction.

        Parameters
        ----------
        X : array-like or CSR matrix of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        Y : array of shape (n_samples, 1)
            Their coordinates.
        """
        result = self._result
        X = self._checked(X, "transform")
        return _times(X, cast(result.components, _name(X)))


def _name(X: Any) -> str:
    return str(X.dtype).rpartition(".")[2]


def _times(X: Any, V: Array) -> Array:
    if is_sparse(X):
        return np.asarray(X @ to_numpy(V).T)
    xp = array_namespace(X)
    return xp.matmul(X, xp.matrix_transpose(V))
