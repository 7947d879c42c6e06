"""Sketching: random matrices that shorten tall data, the fast transform behind them, and least squares on top.

`lstsq` solves least squares to full accuracy, several times faster than LAPACK on tall matrices; `sketched_lstsq` gives
an approximate solution from one sketch, with a bound for every coordinate; `SketchedLinearRegression` is the
scikit-learn estimator of both.

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
from ._kronecker import KroneckerRows
from ._lstsq import LstsqResult, lstsq
from ._sketched import SketchedLstsqResult, sketched_lstsq
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
    "KroneckerRows",
    "LstsqResult",
    "SketchedLinearRegression",
    "SketchedLstsqResult",
    "SparseSign",
    "SubsampledHadamardProjection",
    "TensorSRHT",
    "fwht",
    "gram_error",
    "lstsq",
    "sketched_lstsq",
]

if TYPE_CHECKING:
    from ._estimators import SketchedLinearRegression as SketchedLinearRegression
    from ._estimators import SubsampledHadamardProjection as SubsampledHadamardProjection
else:

    def __getattr__(name):
        if name not in ("SketchedLinearRegression", "SubsampledHadamardProjection"):
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module("._estimators", __name__), name)
        return value

    def __dir__():
        return sorted({*globals(), *__all__})
