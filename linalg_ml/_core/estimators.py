"""What every scikit-learn estimator of the package does alike."""

from typing import Any

from .arrays import is_sparse, namespace


def remember_namespace(estimator: Any, X: Any) -> None:
    """Note in `fit` to which array library `X`, as validated, belongs."""
    estimator._fit_namespace = _name(X)


def check_namespace(estimator: Any, X: Any, method: str) -> None:
    """Refuse, as scikit-learn asks, an array of another library than `fit` was given."""
    if _name(X) != estimator._fit_namespace:
        where = f"{type(estimator).__name__}.{method}()"
        raise ValueError(
            f"arrays given to {where} must use the same namespace as those given to fit: fit was given "
            f"{estimator._fit_namespace}, {where} {_name(X)}"
        )


def _name(X: Any) -> str:
    return "numpy" if is_sparse(X) else namespace(X).__name__.rpartition("array_api_compat.")[2]
