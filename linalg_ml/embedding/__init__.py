"""Graph embeddings: vectors for nodes by very sparse random projection (FastRP), at the speed of memory.

`fastrp` embeds the nodes of a graph and tells how well inner products are kept; its result embeds new nodes
(`FastRPResult.transform`) and follows edited edges (`FastRPResult.update`). `tune` searches for the weights of the
powers and the exponent of the degrees. `projection_matrix` shows the random projection. `FastRP` is the scikit-learn
estimator.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from ._fastrp import fastrp
from ._projection import projection_matrix
from ._result import FastRPResult
from ._tune import TuneResult, tune

__all__ = ["FastRP", "FastRPResult", "TuneResult", "fastrp", "projection_matrix", "tune"]

if TYPE_CHECKING:
    from ._estimators import FastRP as FastRP
else:

    def __getattr__(name):
        if name != "FastRP":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module("._estimators", __name__), name)
        return value

    def __dir__():
        return sorted({*globals(), *__all__})
