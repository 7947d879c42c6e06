"""scikit-learn estimators of the streaming wing."""

import math
from abc import abstractmethod
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from .._core.arrays import Array, cast, check_int, compute_dtype, device, is_sparse, like, namespace, to_numpy
from .._core.estimators import check_namespace, remember_namespace
from .._core.random import key_of
from ._frequent import unscaled
from ._result import TopEigenvectorResult
from ._rows import check_weights
from ._stream import TopEigenvectorStream


class _Streaming(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """What both estimators do: feed a stream, and project on its directions."""

    _stream: TopEigenvectorStream
    _given: dict[str, Any]  # settings of the stream
    _answers: dict[str, Any]  # formed when first asked for

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
            Weights ≥ 0, not all of them zero.

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
            Weights ≥ 0; of the first rows not all zero.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If rows are refused, or a setting was changed since the first of them; what was seen before stays.
        """
        first = "_stream" not in self.__dict__
        if not first:
            self._check_settings()
            if sample_weight is None and self._taken(X):
                self._changed()
                return self
        X = self._validated(X, reset=first)
        if first:
            remember_namespace(self, X)
        else:
            check_namespace(self, X, "partial_fit")
        if sample_weight is not None:
            if not np.isscalar(sample_weight):  # a series, say
                sample_weight = check_array(sample_weight, ensure_2d=False, input_name="sample_weight")
            sample_weight = check_weights(sample_weight, X.shape[0])
            if first and not sample_weight.any():
                raise ValueError("sample_weight is zero for all samples: none of them would count")
        stream = self._new_stream(X) if first else self._stream
        stream.update(X, sample_weight)
        if first:  # had the rows been refused, the next ones would be the first
            self._stream = stream
            self._given = {name: value for name, value in self.get_params(deep=False).items() if name != "whiten"}
        self._changed()
        return self

    def _check_settings(self) -> None:
        """Raise a ValueError if a setting is no longer what the stream was made with."""
        for name, was in self._given.items():
            now = getattr(self, name)
            if now is not was and now != was:
                raise ValueError(f"{name} was {was!r} for the rows seen so far and is {now!r} now: only fit changes it")

    def _taken(self, X: Any) -> bool:
        """Take a few rows like those before without scikit-learn's checks, which take longer than the rows."""
        plain = type(X) is np.ndarray and X.ndim == 2 and not hasattr(self, "feature_names_in_")
        return plain and self._stream._taken(X)

    def _changed(self) -> None:
        self.n_samples_seen_ = self._stream.n_rows
        self._answers = {}

    def _validated(self, X: Any, *, reset: bool) -> Any:
        X = validate_data(self, X, accept_sparse="csr", reset=reset, ensure_all_finite=False)
        return cast(X, compute_dtype(X.dtype, "X", complex_ok=False))

    def _accepted(self, X: Any, method: str) -> Any:
        check_namespace(self, X, method)
        return cast(X, compute_dtype(X.dtype, "X", complex_ok=False))

    @abstractmethod
    def _new_stream(self, X: Any) -> TopEigenvectorStream:
        """Return an empty stream for rows like these."""

    @property
    def _result(self) -> TopEigenvectorResult:
        """The answer for the rows seen so far; what is handed out of it are copies."""
        check_is_fitted(self, "n_samples_seen_")
        if "result" not in self._answers:
            self._answers["result"] = self._stream.result()
        return self._answers["result"]

    @property
    def _scaled(self) -> tuple[TopEigenvectorResult, int]:
        """The answer for rows divided by 2**e, the squares of which neither over- nor underflow, and e."""
        moderate = 1e-200 < self._result.frobenius_sq < 1e200
        if "scaled" not in self._answers:
            self._answers["scaled"] = (self._result, 0) if moderate else self._stream._scaled_result()
        return self._answers["scaled"]

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
        return self._result.heavy_indices.copy()

    @property
    def components_(self) -> Array:
        """Leading directions, one a row."""
        return _copied(self._result.components)

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
        X = validate_data(self, X, accept_sparse="csr", reset=False)
        X = self._accepted(X, "transform")
        V = cast(result.components, _name(X))
        Y = _times(X, namespace(V).matrix_transpose(V))
        if result.mean is not None:
            Y = Y - namespace(V).matmul(V, cast(result.mean, _name(X)))
        spread = self._spread(_name(X))
        return Y if spread is None else Y / like(spread, Y)

    def inverse_transform(self, X: Any) -> Array:
        """Return rows from coordinates.

        Parameters
        ----------
        X : array-like or CSR matrix of shape (n_samples, n_components)
            Coordinates.

        Returns
        -------
        rows : array of shape (n_samples, n_features)
            The nearest rows that the components span.
        """
        result = self._result
        X = self._accepted(check_array(X, accept_sparse="csr", input_name="X"), "inverse_transform")
        V = cast(result.components, _name(X))
        if X.shape[1] != V.shape[0]:
            raise ValueError(f"X must have a column for each of {V.shape[0]} components, got shape {tuple(X.shape)}")
        spread = self._spread(_name(X))
        if spread is not None:
            V = V * like(spread, V)[:, None]
        rows = _times(X, V)
        return rows if result.mean is None else rows + cast(result.mean, _name(X))

    def _spread(self, dtype: str) -> np.ndarray | None:
        """Return what coordinates are divided by, if by anything."""
        return None

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

        Raises
        ------
        ValueError
            If settings differ, or one was changed since the first rows, or the method cannot be merged.
        TypeError
            If the other is of another class.
        """
        if type(other) is not type(self):
            raise TypeError(f"other must be a {type(self).__name__}, got {type(other).__name__}")
        for each in (self, other):
            check_is_fitted(each)
            each._check_settings()
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

    Weights count relative to one another: variances are sums of w (x - mean)², divided by (n - 1)/n of the sum of w
    for n rows, so that 100 everywhere is as no weights at all; what is forgotten, see `forget`, is a weight too.

    Of `IncrementalPCA` two attributes are missing: `batch_size_`, and `var_`, the variances of single features, of
    which the stream keeps no sums. `get_covariance` and `get_precision` do not depend on `whiten`.

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
    def mean_(self) -> Array:
        """Mean of the rows."""
        components, mean = self._result.components, self._result.mean
        return namespace(components).zeros_like(components[0, :]) if mean is None else _copied(mean)

    @property
    def _freedom(self) -> float:
        """What sums of squares are divided by for variances: n - 1, were all weights one."""
        if "freedom" not in self._answers:
            n = self.n_samples_seen_
            self._answers["freedom"] = max(self._stream._weight() / n * max(1, n - 1), np.finfo(np.float64).tiny)
        return self._answers["freedom"]

    @property
    def explained_variance_(self) -> np.ndarray:
        """Variance along each component."""
        result, exponent = self._scaled
        return unscaled(result.values / self._freedom, 2 * exponent)

    @property
    def explained_variance_ratio_(self) -> np.ndarray:
        """Share of the total variance."""
        result, _ = self._scaled
        return result.values / result.frobenius_sq if result.frobenius_sq else np.zeros_like(result.values)

    @property
    def singular_values_(self) -> np.ndarray:
        """Singular values."""
        result, exponent = self._scaled
        return unscaled(np.sqrt(result.values), exponent)

    @property
    def _noise(self) -> float:
        """Variance along all other directions, in the working scale."""
        result, _ = self._scaled
        rest = self.n_features_in_ - self.n_components_
        left = max(0.0, result.frobenius_sq - float(result.values.sum()))
        return left / self._freedom / rest if rest else 0.0

    @property
    def noise_variance_(self) -> float:
        """Mean variance along all other directions."""
        return float(unscaled(self._noise, 2 * self._scaled[1]))

    def _spread(self, dtype: str) -> np.ndarray | None:
        """Return standard deviations, one where there is none, if coordinates are to be whitened."""
        if not self.whiten:
            return None
        result, exponent = self._scaled
        with np.errstate(over="ignore", under="ignore"):
            spread = unscaled(np.sqrt(result.values / self._freedom), exponent).astype(dtype)
        return np.where(spread > 0, spread, spread.dtype.type(1))

    def get_covariance(self) -> Array:
        """Return the covariance of the model: explained variances along components, the noise along all else.

        Returns
        -------
        covariance : array of shape (n_features, n_features)
            That of rows, whitened or not; in the library and dtype of the components.
        """
        return self._covariance(1)

    def get_precision(self) -> Array:
        """Return the inverse of `get_covariance`, formed without inverting.

        Returns
        -------
        precision : array of shape (n_features, n_features)
            In the library and dtype of the components.

        Raises
        ------
        LinAlgError
            If a variance is zero, beside rounding.
        """
        return self._covariance(-1)

    def _covariance(self, power: int) -> Array:
        """Return a power of the covariance of the model."""
        result, exponent = self._scaled
        k, d = result.components.shape
        along = np.maximum(result.values / self._freedom, self._noise)
        least = along.min() if k == d else self._noise
        if power < 0 and not least > d * np.finfo(np.float64).eps * along.max():
            raise np.linalg.LinAlgError("the covariance has no inverse: some direction has no variance")
        noise = self._noise**power if k < d else 0.0
        V = cast(result.components, "float64")
        xp = namespace(V)
        made = xp.matmul(xp.matrix_transpose(V) * like(along**power - noise, V), V)
        made = made + noise * xp.eye(d, dtype=xp.float64, device=device(V))
        factor = math.ldexp(1.0, exponent * power)
        with np.errstate(over="ignore", under="ignore"):
            return cast(made * factor * factor, _name(result.components))


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
        return _copied(self._result.vector)

    @property
    def eigenvalue_(self) -> float:
        """Its eigenvalue."""
        return self._result.value


def _name(X: Any) -> str:
    return str(X.dtype).rpartition(".")[2]


def _copied(values: Array) -> Array:
    """Return an array that may be written to: what was changed in it changes no answer."""
    return namespace(values).asarray(values, copy=True)


def _times(X: Any, V: Array) -> Array:
    return np.asarray(X @ to_numpy(V)) if is_sparse(X) else namespace(X).matmul(X, V)
