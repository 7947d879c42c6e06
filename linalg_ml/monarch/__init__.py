"""Monarch matrices: the best approximation of a dense matrix by them, and all one computes with them.

A Monarch matrix is a product of two block-diagonal matrices and permutations: r(mK + nJ) numbers in place of mn.
`project` gives the nearest one to a matrix in closed form, with its error; `suggest` finds the block sizes; `certify`
bounds how far any Monarch matrix is from the best. `dft`, `dct`, `hadamard`, `circulant`, `from_permutation` and
`from_kronecker` are exact members. `factor_mm` recovers the factors of a product of two of them. `MonarchRegressor` is
the scikit-learn estimator, `load_safetensors` reads weights that ``linalg-ml compress`` wrote.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from ._certificate import certify
from ._constructors import from_block_diagonal, from_kronecker, from_lowrank
from ._matrix import MonarchMatrix
from ._mm import MMFactorization, factor_mm
from ._permutations import from_permutation
from ._project import project
from ._safetensors import load_safetensors
from ._suggest import SuggestResult, suggest
from ._transforms import circulant, dct, dft, hadamard

__all__ = [
    "MMFactorization",
    "MonarchMatrix",
    "MonarchRegressor",
    "SuggestResult",
    "certify",
    "circulant",
    "dct",
    "dft",
    "factor_mm",
    "from_block_diagonal",
    "from_kronecker",
    "from_lowrank",
    "from_permutation",
    "hadamard",
    "load_safetensors",
    "project",
    "suggest",
]

if TYPE_CHECKING:
    from ._estimators import MonarchRegressor as MonarchRegressor
else:

    def __getattr__(name):
        if name != "MonarchRegressor":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = import_module("._estimators", __name__).MonarchRegressor
        return value

    def __dir__():
        return sorted({*globals(), *__all__})
