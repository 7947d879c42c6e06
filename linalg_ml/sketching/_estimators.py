"""scikit-learn estimators of the sketching wing."""

from typing import Any, Self

import numpy as np
from scipy.linalg import pinv
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    MultiOutputMixin,
    RegressorMixin,
    TransformerMixin,
)
from sklearn.random_projection import johnson_lindenstrauss_min_dim
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data
from sklearn.utils.validation import check_array as check_samples

from .._core.arrays import (
    Array,
    cast,
    check_array,
    check_choice,
    check_int,
    check_real,
    compute_dtype,
    is_sparse,
    like,
    namespace,
    to_numpy,
)
from .._core.estimators import check_namespace, remember_namespace
from .._core.random import child, key_of
from ._hadamard import SRHT
from ._lstsq import METHODS, solve
from ._regression import RegressionSketch, design, mean_row, targets


class SubsampledHadamardProjection(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Reduce the number of features by a subsampled randomised Hadamard transform.

    A random projection beside scikit-learn's `GaussianRandomProjection` and `SparseRandomProjection`, with their
    interface: distances between samples are kept up to a factor 1 ± `eps`. It stores k numbers where those store
    a matrix, and costs n_features·log(n_features) a sample at most.

    Parameters
    ----------
    n_components : int or "auto", default "auto"
        Number of features of the result, at most the number of features given. "auto": as many as the
        Johnson–Lindenstrauss lemma asks for, given the number of samples and `eps`.
    eps : float in (0, 1), default 0.1
        Distortion of squared distances that "auto" allows.
    random_state : None, int, numpy.random.Generator or numpy.random.RandomState, optional
        Randomness.

    Attributes
    ----------
    n_components_ : int
        Number of features of the result.
    components_ : ndarray of shape (n_components, n_features)
        The projection as a matrix, made when asked for.
    sketch_ : SRHT
        The projection as an operator.
    n_features_in_ : int
        Number of features seen during `fit`.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features seen during `fit`, where all of them are strings.

    Raises
    ------
    ValueError
        If `n_components` is more than the number of features, or `eps` is not in (0, 1).

    See Also
    --------
    SRHT : the operator.
    sklearn.random_projection.GaussianRandomProjection : the same with a dense Gaussian matrix.

    Notes
    -----
    For one pair of samples the squared distance is kept up to 1 ± ε with probability 1 - δ once
    n_components ≥ C ε⁻² log(1/δ) log(n_features/δ); "auto" uses scikit-learn's formula for Gaussian matrices,
    which measured holds here as well. Sparse `X` is accepted; the result is dense.

    References
    ----------
    .. [1] N. Ailon, B. Chazelle, "The fast Johnson–Lindenstrauss transform and approximate nearest neighbors",
       SIAM J. Computing 39 (2009).

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from linalg_ml.sketching import SubsampledHadamardProjection
    >>> X = load_digits().data
    >>> SubsampledHadamardProjection(n_components=16, random_state=0).fit_transform(X).shape
    (1797, 16)
    """

    def __init__(self, n_components="auto", *, eps=0.1, random_state=None):
        self.n_components = n_components
        self.eps = eps
        self.random_state = random_state

    def __sklearn_tags__(self):
        """Return the tags: sparse input and array-API input are accepted, float32 and float64 are kept."""
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.array_api_support = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def fit(self, X: Any, y: Any = None) -> Self:
        """Choose the number of components, and draw the projection.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            Only its shape is used.
        y : None
            Ignored.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        X = self._validated(X, reset=True)
        remember_namespace(self, X)
        n_samples, n_features = X.shape
        self.n_components_ = self._chosen(n_samples, n_features)
        self.sketch_ = SRHT(n_features, self.n_components_, rng=key_of(self.random_state, "random_state"))
        return self

    def transform(self, X: Any) -> Array:
        """Project samples.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            The samples.

        Returns
        -------
        X_new : array of shape (n_samples, n_components)
            The projected samples, dense.
        """
        check_is_fitted(self)
        X = self._validated(X, reset=False)
        check_namespace(self, X, "transform")
        return (self.sketch_ @ X.T).T

    def inverse_transform(self, X: Any) -> Array:
        """Return the samples of least norm that project to `X`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_components)
            Projected samples.

        Returns
        -------
        X_original : array of shape (n_samples, n_features)
            Samples, by the pseudo-inverse of `components_`: n_components²·n_features flops, once a call.
        """
        check_is_fitted(self)
        X = check_array(check_samples(X), "X")
        check_namespace(self, X, "inverse_transform")
        if X.shape[1] != self.n_components_:
            raise ValueError(f"X must have {self.n_components_} features (n_components_), got {X.shape[1]}")
        xp = namespace(X)
        return xp.matmul(X, like(pinv(self.components_).T, X, X.dtype))

    @property
    def components_(self) -> np.ndarray:
        """The projection as a matrix, ndarray of shape (n_components, n_features)."""
        check_is_fitted(self)
        return self.sketch_.to_dense()

    @property
    def _n_features_out(self) -> int:
        return self.n_components_

    def _validated(self, X: Any, *, reset: bool) -> Any:
        return validate_data(self, X, reset=reset, accept_sparse=["csr", "csc"])

    def _chosen(self, n_samples: int, n_features: int) -> int:
        if isinstance(self.n_components, str):
            if self.n_components != "auto":
                raise ValueError(f"n_components must be an integer ≥ 1 or 'auto', got {self.n_components!r}")
            wanted = int(johnson_lindenstrauss_min_dim(n_samples, eps=check_real(self.eps, "eps", 0, 1)))
            found = f"n_components='auto' asks for {wanted} at eps={self.eps:g} and {n_samples} samples"
        else:
            wanted = check_int(self.n_components, "n_components")
            found = f"got n_components={wanted}"
        if not 1 <= wanted <= n_features:
            raise ValueError(f"n_components must be from 1 to n_features={n_features}; {found}")
        return wanted


def _keeps_a_sketch(estimator: Any) -> bool:
    if estimator.n_sketch is None:
        raise AttributeError("partial_fit needs n_sketch, the number of rows to keep; it is None")
    return True


class SketchedLinearRegression(MultiOutputMixin, RegressorMixin, BaseEstimator):
    """Linear and ridge regression of tall data, by `lstsq` to full accuracy, or from a sketch that grows with the data.

    Minimises Σ wᵢ (yᵢ - xᵢᵀ coef - intercept)² + alpha ‖coef‖², as scikit-learn's `LinearRegression` and `Ridge` do, in
    a fraction of their time and memory on tall data, and with standard errors.

    Parameters
    ----------
    alpha : float ≥ 0, default 0.0
        Weight of the ridge, which leaves the intercept out.
    fit_intercept : bool, default True
        Whether to fit an intercept, as the coefficient of a column of ones that is never stored.
    n_sketch : int, optional
        None solves to full accuracy, and `fit` sees all samples. A number keeps a sketch of that many rows
        instead, for `partial_fit`: at least as many as coefficients; the error falls as 1/√n_sketch.
    method : {"auto", "gram", "sketch", "qr", "lsmr"}, default "auto"
        How `lstsq` solves, without `n_sketch`.
    random_state : None, int, numpy.random.Generator or numpy.random.RandomState, optional
        Randomness of the sketch.

    Attributes
    ----------
    coef_ : array of shape (n_features,) or (n_targets, n_features)
        Coefficients.
    intercept_ : float or array of shape (n_targets,)
        Intercept; 0.0 if there is none.
    rank_ : int or None
        Numerical rank of the samples (with the column of ones and the ridge); None where LSMR solved.
    backward_error_ : float, array of shape (n_targets,) or None
        As that of `lstsq`; None with `n_sketch`.
    n_iter_ : int
        Iterations of refinement.
    stderr_ : array of the shape of `coef_`, or None
        Standard errors of the coefficients, with `n_sketch` those of sketching included; None where they are not
        known (no more samples than coefficients, or solved by LSMR).
    n_samples_seen_ : int
        Samples seen by `fit` or by all calls of `partial_fit`.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features, where all of them are strings.

    Raises
    ------
    ValueError
        If `alpha` < 0, `n_sketch` is less than the number of coefficients, or samples are not acceptable.

    See Also
    --------
    lstsq : the solver.
    sketched_lstsq : a sketch with a bound for every coordinate.

    Notes
    -----
    With `n_sketch` = m, the coefficients differ from the exact ones by about √(n/m) of their standard errors; `stderr_`
    tells of both together. It is an estimate and no bound: the sketch is sparse.

    Memory: m·(n_features + n_targets) numbers, whatever the number of samples. The cut into
    blocks changes nothing but rounding. Without it, see `lstsq` for time and memory; samples are read several times.

    References
    ----------
    .. [1] E. N. Epperly, M. Meier, Y. Nakatsukasa, "Fast randomized least-squares solvers can be just as accurate
       and stable as classical direct solvers", arXiv:2406.03468 (2024).

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from linalg_ml.sketching import SketchedLinearRegression
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = SketchedLinearRegression().fit(X, y)
    >>> round(model.score(X, y), 4)
    0.5177
    """

    def __init__(self, alpha=0.0, *, fit_intercept=True, n_sketch=None, method="auto", random_state=None):
        self.alpha = alpha
        self.fit_intercept = fit_intercept
        self.n_sketch = n_sketch
        self.method = method
        self.random_state = random_state

    def __sklearn_tags__(self):
        """Return the tags: sparse samples and arrays of other libraries are accepted."""
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.array_api_support = True
        return tags

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit to samples.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            Samples.
        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            Targets.
        sample_weight : array-like of shape (n_samples,), optional
            Weights ≥ 0.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        if self.n_sketch is not None:
            return self._update(X, y, sample_weight, reset=True)
        X, y, roots = self._checked(X, y, sample_weight, reset=True)
        damp = self._root_alpha()
        inside = bool(self.fit_intercept) and damp > 0  # the intercept is left out of the ridge by rows of its own
        shift = mean_row(X, roots) if self.fit_intercept else None
        A = design(X, roots, bool(self.fit_intercept), damp if inside else 0.0, shift)
        b = targets(y, roots, X.shape[1] if inside else 0)
        method = check_choice(self.method, "method", METHODS)
        key = key_of(self.random_state, "random_state")
        result = solve(A, b, 0.0 if inside else damp, method, None, None, key, "maybe")
        self._keep(to_numpy(result.x), X, shift)
        self.rank_, self.n_iter_, self.backward_error_ = result.rank, result.n_iter, result.backward_error
        self.n_samples_seen_ = X.shape[0]
        n_counted = X.shape[0] if roots is None else int(np.count_nonzero(roots))
        self.stderr_ = self._errors(result, X, n_counted, damp if inside else 0.0)
        return self

    @available_if(_keeps_a_sketch)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Add samples to those seen before; needs `n_sketch`.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            Samples.
        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            Targets.
        sample_weight : array-like of shape (n_samples,), optional
            Weights ≥ 0.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        return self._update(X, y, sample_weight, reset=not hasattr(self, "_sketch"))

    def predict(self, X: Any) -> Array:
        """Predict targets.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        y : array of shape (n_samples,) or (n_samples, n_targets)
            Predicted targets.
        """
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, accept_sparse="csr")
        check_namespace(self, X, "predict")
        coef, intercept = self.coef_, self.intercept_
        if not is_sparse(X):
            X = cast(X, compute_dtype(X.dtype, "X"))
            coef = like(to_numpy(coef), X, X.dtype)
            intercept = like(np.asarray(to_numpy(intercept)), X, X.dtype) if np.ndim(intercept) else float(intercept)
        return X @ (coef if coef.ndim == 1 else coef.T) + intercept

    # --- parts of fitting -----------------------------------------------------------------------------

    def _checked(self, X: Any, y: Any, sample_weight: Any, *, reset: bool) -> tuple[Array, Array, np.ndarray | None]:
        """Return X and y in one floating dtype, and √w on the host."""
        X, y = validate_data(self, X, y, reset=reset, accept_sparse="csr", multi_output=True, y_numeric=True)
        if reset:
            remember_namespace(self, X)
        else:
            check_namespace(self, X, "partial_fit")
        X = cast(X, compute_dtype(X.dtype, "X", complex_ok=False))
        y = to_numpy(y).astype(compute_dtype(X.dtype), copy=False)
        y = y if is_sparse(X) else like(y, X)
        if sample_weight is None:
            return X, y, None
        weights = to_numpy(_check_sample_weight(sample_weight, X, dtype=X.dtype, ensure_non_negative=True))
        return X, y, np.sqrt(weights.astype(np.float64))

    def _root_alpha(self) -> float:
        return check_real(self.alpha, "alpha", 0, 1e150, open_ends=False) ** 0.5

    def _keep(self, x: np.ndarray, X: Array, shift: np.ndarray | None) -> None:
        """Take coefficients and intercept apart; the latter is of samples less `shift`."""
        d = X.shape[1]
        place = (lambda values: values) if is_sparse(X) else (lambda values: like(values, X))
        self.coef_ = place(np.ascontiguousarray(x[:d].T))
        last = x[d] if self.fit_intercept else 0.0
        if shift is not None:
            last = (last - shift.astype(np.float64) @ x[:d]).astype(x.dtype)
        self.intercept_ = float(last) if np.ndim(last) == 0 else place(last)

    def _errors(self, result: Any, X: Array, n_counted: int, damp: float) -> Array | None:
        """Return standard errors of the coefficients.

        `n_counted` is the number of samples of weight above 0, `damp` that of the rows that stand for a ridge.
        """
        if result.covariance is None or n_counted <= result.rank:
            return None
        (n, d), C = X.shape, result.covariance
        C = C[:, :, None] if C.ndim == 2 else C
        squares = np.atleast_1d(np.square(result.residual_norm))
        n_rows, spare = n + d * (damp > 0), n_counted - result.rank
        if damp > 0:  # C is of the samples and those rows: (AᵀA + D)⁻¹, where (AᵀA + D)⁻¹ AᵀA (AᵀA + D)⁻¹ is wanted
            x = to_numpy(result.x).reshape(C.shape[0], -1)
            largest = int(np.argmax(squares))
            E = C[:, :, largest] * ((n_rows - result.rank) / max(squares[largest], np.finfo(np.float64).tiny))
            sandwich = E - damp**2 * E[:, :d] @ E[:d]
            C = sandwich[:, :, None] * (np.maximum(squares - damp**2 * np.sum(x[:d] ** 2, axis=0), 0) / spare)
        else:
            C = C * ((n_rows - result.rank) / spare)
        errors = np.sqrt(np.maximum(np.einsum("iik->ki", C)[:, :d], 0)).reshape(self.coef_.shape)
        return errors if is_sparse(X) else like(errors.astype(compute_dtype(X.dtype)), X)

    # --- parts of a sketch ----------------------------------------------------------------------------

    def _update(self, X: Any, y: Any, sample_weight: Any, *, reset: bool) -> Self:
        self._root_alpha(), check_choice(self.method, "method", METHODS)  # before anything is changed
        X, y, roots = self._checked(X, y, sample_weight, reset=reset)
        columns = y if y.ndim == 2 else y[:, None]
        width = X.shape[1] + bool(self.fit_intercept)
        if reset:
            m = check_int(self.n_sketch, "n_sketch", width, None, "at least as many rows as coefficients")
            key = key_of(self.random_state, "random_state")
            shift = mean_row(X, roots) if self.fit_intercept else None
            self._sketch = RegressionSketch(m, width, columns.shape[1], child(key, 0), shift)
            self._ndim = y.ndim
        elif width != self._sketch.width:
            raise ValueError("fit_intercept must stay as it was at the first call of partial_fit")
        elif columns.shape[1] != self._sketch.sums.shape[1] - width:
            known = self._sketch.sums.shape[1] - width
            raise ValueError(f"y must have {known} targets as before, got {columns.shape[1]}")
        A = design(X, roots, bool(self.fit_intercept), 0.0, self._sketch.shift)
        self._sketch.update(A, targets(columns, roots, 0))
        self._sketch.n_counted += X.shape[0] if roots is None else int(np.count_nonzero(roots))
        self._solve_sketch(X)
        return self

    def _solve_sketch(self, X: Array) -> None:
        """Take the coefficients and their errors from the sketch."""
        sketch, d = self._sketch, X.shape[1]
        damp = self._root_alpha()
        ridge = np.full(sketch.width, damp)
        ridge[d:] = 0.0
        kind = compute_dtype(X.dtype)
        x, P, squares = sketch.solve(ridge, 10 * float(np.finfo(kind).eps))
        self._keep((x[:, 0] if self._ndim == 1 else x).astype(kind), X, sketch.shift)
        self.rank_, self.n_iter_, self.backward_error_ = P.rank, 0, None
        self.n_samples_seen_ = sketch.n_rows
        n, m = sketch.n_counted, sketch.sums.shape[0]
        if min(n, m) <= P.rank + 1:
            self.stderr_ = None
            return
        inverse = P.apply(np.eye(P.rank))
        # of the exact coefficients, squares/n, and of the sketch's deviation from them, squares/m
        variance = squares * (1 / (n - P.rank) + 1 / (m - P.rank - 1))
        errors = np.sqrt(variance[:, None] * np.sum(inverse**2, axis=1)[None, :d]).reshape(self.coef_.shape)
        self.stderr_ = errors if is_sparse(X) else like(errors.astype(kind), X)
