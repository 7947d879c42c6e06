"""One warning for all iterations that end at their limit."""

import warnings


def warn_unconverged(message: str, stacklevel: int) -> None:
    """Warn with scikit-learn's class; `stacklevel` counts from the function that calls this one."""
    from sklearn.exceptions import ConvergenceWarning  # half a second to load, and needed by few

    warnings.warn(message, ConvergenceWarning, stacklevel=stacklevel + 1)
