"""Streaming: leading eigenvectors and PCA of rows that arrive once, in small memory, with an error estimate.

`top_eigenvector` takes data at hand or a generator, `TopEigenvectorStream` rows as they arrive; `FrequentDirections` is
the deterministic, mergeable sketch. `StreamingPCA` and `TopEigenvector` are the scikit-learn estimators.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from ._frequent import FrequentDirections
from ._result import TopEigenvectorResult
from ._stream import TopEigenvectorStream
from ._top import top_eigenvector

__all__ = [
    "FrequentDirections",
    "StreamingPCA",
    "TopEigenvector",
    "TopEigenvectorResult",
    "TopEigenvectorStream",
    "top_eigenvector",
]

if TYPE_CHECKING:
    from ._estimators import StreamingPCA as StreamingPCA
    from ._estimators import TopEigenvector as TopEigenvector
else:

    def __getattr__(name):
        if name not in ("StreamingPCA", "TopEigenvector"):
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module("._estimators", __name__), name)
        return value

    def __dir__():
        return sorted({*globals(), *__all__})
