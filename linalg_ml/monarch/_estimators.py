"""scikit-learn estimators of the monarch wing."""

from typing import Any, Self

from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from .._core.arrays import Array, cast, check_int, check_real, compute_dtype, like, namespace, to_numpy
from .._core.estimators import check_namespace, remember_namespace
from .._core.random import key_of
from ._layout import Layout, layout
from ._ridge import project_ridge


class MonarchRegressor(MultiOutputMixin, RegressorMixin, BaseEstimator):
    """Ridge regression with many targets whose coefficients are a Monarch matrix.

    Minimises ‖Y - X Wᵀ - intercept‖² + alpha ‖W‖² over matrices W (n_targets, n_features) with rank·(n_targets·K +
    n_features·J) numbers in place of n_targets·n_features: the ridge solution, projected in the metric of the data.

    Parameters
    ----------
    nblocks : int or (int, int), optional
        (J, K): blocks of targets and blocks of features, divisors of their numbers; an integer means both. By default
        for each the largest divisor ≤ its square root, or, where that is less than half the root (primes), the rounded
        root with padding. One target is always one block.
    rank : int, default 1
        Rank of each slice of n_targets/J targets and n_features/K features; what is above its smaller side counts as
        that, and gives ridge regression itself.
    alpha : float ≥ 0, default 1.0
        Weight of the ridge, which leaves the intercept out.
    max_iter : int, default 20
        Most sweeps of the block descent.
    tol : float, default 1e-6
        Relative fall, in a sweep, of what the loss is above that of ridge regression; below it they end.
    fit_intercept : bool, default True
        Whether to fit an intercept.
    random_state : None, int, numpy.random.Generator or numpy.random.RandomState, optional
        For uniformity: nothing is drawn, the same data give the same coefficients.

    Attributes
    ----------
    coef_operator_ : MonarchMatrix of shape (n_targets, n_features)
        Coefficients as an operator. Its `weighted_error` is the error in the metric of the data, the root of the loss
        above that of ridge regression; its `error` and `relative_error` are those of the coefficients themselves, in
        the Frobenius norm; `converged` tells whether the sweeps ended by `tol`.
    coef_ : array of shape (n_features,) or (n_targets, n_features)
        Coefficients as a dense array.
    intercept_ : float or array of shape (n_targets,)
        Intercept; 0.0 if there is none.
    n_iter_ : int
        Sweeps; 1 also where the start was the solution already.
    loss_ : array of shape (number of sweeps + 1,)
        ‖Y - X Wᵀ - intercept‖² + alpha ‖W‖² at the start and after every sweep. It never increases.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features, where all of them are strings.

    Raises
    ------
    ValueError
        If `nblocks` does not divide the numbers of targets and features, or a number is out of its range.

    Warns
    -----
    ConvergenceWarning
        If `max_iter` sweeps did not reach `tol`.

    See Also
    --------
    project : the projection, with ``weights`` for the metric.
    sklearn.linear_model.Ridge : what this is at full rank.

    Notes
    -----
    With Σ = XᵀX + alpha I of centred samples and the ridge solution W*, the loss of any W is that of W* and
    tr((W - W*) Σ (W - W*)ᵀ), so the best Monarch coefficients are a weighted projection of W* [1]_. It starts from the
    optimum for the diagonal blocks of Σ, and every step of the descent is the best for one block of features while the
    others are fixed; what it ends at need not be the global optimum. One target, one block of features and full rank
    take no sweep: the start is exact.

    W* is found by QR and SVD of [X; √alpha I], so Σ is never inverted, and squares of the samples enter nowhere but in
    weights. With ``alpha=0`` and dependent features W* is the solution of least norm, and Σ is made definite by
    weights within its rounding. All is computed in double precision; the coefficients have the precision of `X`.

    Cost: 4·n_samples·n_features² + 30·n_features³ flops, and 4·n_targets·n_features² a sweep; memory three copies of
    the samples in double precision and eight matrices of n_features². Predictions cost
    2·rank·(n_targets·K + n_features·J) flops a sample. Sparse samples are refused.

    References
    ----------
    .. [1] T. Dao et al., "Monarch: expressive structured matrices for efficient and accurate training", ICML 2022,
       Theorem 1 (of the unweighted projection).

    Examples
    --------
    The lower halves of digits from their upper halves, with half of the coefficients:

    >>> from sklearn.datasets import load_digits
    >>> from linalg_ml.monarch import MonarchRegressor
    >>> digits = load_digits().data / 16
    >>> X, Y = digits[:, :32], digits[:, 32:]
    >>> model = MonarchRegressor(nblocks=4, rank=2, tol=1e-4).fit(X, Y)
    >>> model.coef_operator_.n_parameters, model.coef_.size
    (512, 1024)
    >>> round(model.score(X, Y), 3), round(MonarchRegressor(nblocks=1, rank=32).fit(X, Y).score(X, Y), 3)
    (0.316, 0.352)
    """

    def __init__(
        self, nblocks=None, rank=1, *, alpha=1.0, max_iter=20, tol=1e-6, fit_intercept=True, random_state=None
    ):
        self.nblocks = nblocks
        self.rank = rank
        self.alpha = alpha
        self.max_iter = max_iter
        self.tol = tol
        self.fit_intercept = fit_intercept
        self.random_state = random_state

    def __sklearn_tags__(self):
        """Return the tags: arrays of other libraries are accepted."""
        tags = super().__sklearn_tags__()
        tags.array_api_support = True
        return tags

    def fit(self, X: Any, y: Any) -> Self:
        """Fit to samples.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples.
        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            Targets.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        X, y = validate_data(self, X, y, reset=True, multi_output=True, y_numeric=True)
        remember_namespace(self, X)
        dtype = compute_dtype(X.dtype, "X", complex_ok=False)
        key_of(self.random_state, "random_state")
        xp = namespace(X)
        X = cast(X, "float64")
        Y = like(to_numpy(y if y.ndim == 2 else y[:, None]), X, "float64")
        cut = self._layout(Y.shape[1], X.shape[1])
        if self.fit_intercept:
            x_mean, y_mean = xp.mean(X, axis=0), xp.mean(Y, axis=0)
            X, Y = X - x_mean, Y - y_mean
        self.coef_operator_, losses = project_ridge(
            X,
            Y,
            cut,
            min(check_int(self.rank, "rank"), cut.p, cut.q),
            check_real(self.alpha, "alpha", 0, 1e150, open_ends=False),
            dtype=dtype,
            max_iter=check_int(self.max_iter, "max_iter", 0),
            tol=check_real(self.tol, "tol", 0, 1, open_ends=False),
        )
        self.loss_ = like(losses, X)
        self.n_iter_ = self.coef_operator_.n_iter or 1
        coef = self.coef_operator_.to_dense()
        self.coef_ = coef if y.ndim == 2 else coef[0, :]
        self.intercept_ = 0.0
        if self.fit_intercept:
            intercept = y_mean - cast(coef, "float64") @ x_mean
            self.intercept_ = cast(intercept, dtype) if y.ndim == 2 else float(intercept[0])
        return self

    def predict(self, X: Any) -> Array:
        """Predict targets.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Samples.

        Returns
        -------
        y : array of shape (n_samples,) or (n_samples, n_targets)
            Predicted targets.
        """
        check_is_fitted(self)
        X = validate_data(self, X, reset=False)
        check_namespace(self, X, "predict")
        Y = self.coef_operator_.apply_rows(cast(X, compute_dtype(X.dtype, "X")))
        return (Y if self.coef_.ndim == 2 else Y[:, 0]) + self.intercept_

    def _layout(self, n_targets: int, n_features: int) -> Layout:
        """Return the layout; that of one target, where `nblocks` is a number, has it for the features."""
        nblocks = self.nblocks
        if n_targets == 1 and nblocks is not None and not isinstance(nblocks, list | tuple):
            nblocks = (1, nblocks)
        return layout(n_targets, n_features, nblocks, False)
