"""Sketching: random matrices that shorten tall data, and the fast transform behind them.

A sketch S (m × n) turns n rows into m and keeps inner products of columns up to √(d/m) or so. Use `SRHT` for dense
data, `SparseSign` for sparse data and for preconditioners, `TensorSRHT` for Kronecker products, `Gaussian` as the
yardstick, `SRTT` where S Sᵀ must be a multiple of the identity, `CountSketch` where speed is all. `gram_error` tells
how well a sketch did. `SubsampledHadamardProjection` is the scikit-learn transformer.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from ._gaussian import Gaussian
from ._gram import GramErrorResult, gram_error
from ._hadamard import SRHT
from ._sparse import CountSketch, SparseSign
from ._tensor import TensorSRHT
from ._transform import fwht
from ._trigonometric import SRTT

__all__ = [
    "SRHT",
    "SRTT",
    "CountSketch",
    "Gaussian",
    "GramErrorResult",
    "SparseSign",
    "SubsampledHadamardProjection",
    "TensorSRHT",
    "fwht",
    "gram_error",
]

if TYPE_CHECKING:
    from ._estimators import SubsampledHadamardProjection as SubsampledHadamardProjection
else:

    def __getattr__(name):
        if name != "SubsampledHadamardProjection":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module("._estimators", __name__), name)
        return value

    def __dir__():
        return sorted({*globals(), *__all__})
