"""scikit-learn estimators of the sketching wing."""

from typing import Any, Self

import numpy as np
from scipy.linalg import pinv
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.random_projection import johnson_lindenstrauss_min_dim
from sklearn.utils.validation import check_array as check_samples
from sklearn.utils.validation import check_is_fitted, validate_data

from .._core.arrays import Array, check_array, check_int, check_real, like, namespace
from .._core.estimators import check_namespace, remember_namespace
from .._core.random import key_of
from ._hadamard import SRHT


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
