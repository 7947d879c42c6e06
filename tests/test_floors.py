"""Imports go down the floors, and rooms keep to what is theirs: what DESIGN says, read off the sources.

Imports count wherever they stand: in functions and under TYPE_CHECKING too.
"""

import ast
from pathlib import Path

import pytest

import linalg_ml

ROOT = Path(linalg_ml.__file__).parent
FILES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py"))

GROUND = {"_core", "_linalg"}
WINGS = {"sketching", "monarch", "kronecker", "completion", "sensitivity", "cur", "streaming", "embedding"}
# What each floor may import, itself aside.
BELOW = {
    "_core": set(),
    "_linalg": {"_core"},
    **dict.fromkeys(WINGS, GROUND),
    "sensitivity": {*GROUND, "sketching"},
    "cur": {*GROUND, "sketching", "sensitivity"},
    "_commands": {*GROUND, *WINGS, ""},
    "__main__": {*GROUND, *WINGS, "_commands", ""},
    "": {*GROUND, *WINGS},  # linalg_ml/__init__.py
}

# Optional or slow packages, and the rooms of a wing (or files of the ground) that may import them at the top.
NOWHERE: set[str] = set()
SLOW = {
    "numba": {"_kernels_numba", "jit"},
    "llvmlite": {"_kernels_numba", "llvm"},
    "sklearn": {"_estimators", "_tour"},
    "matplotlib": {"_tour"},
    "networkx": {"_tour"},
    **dict.fromkeys(("cupy", "cupyx", "torch", "jax", "dask", "distributed"), NOWHERE),
    **dict.fromkeys(("pandas", "polars", "sparse"), NOWHERE),
}

# numpy.random holds classes, which are welcome, and functions on global state, which are not.
RANDOM = {"Generator", "RandomState", "Philox", "PCG64", "BitGenerator", "SeedSequence", "default_rng"}


def violations(file, source):
    """Return what `source` does that a file of this name (relative to the package) may not."""
    tree = ast.parse(source)
    return [*_wrong_imports(file, tree), *_wrong_words(file, tree)]


def _parts(file):
    return file.removesuffix(".py").removesuffix("__init__").strip("/").split("/")


def _imports(file, tree):
    """Yield (module as a list of names, names taken from it, whether it is loaded with the file)."""
    package = file.split("/")[:-1]
    inside = {id(node) for f in ast.walk(tree) if isinstance(f, ast.FunctionDef | ast.Lambda) for node in ast.walk(f)}
    for node in ast.walk(tree):
        at_top = id(node) not in inside
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name.split("."), [], at_top
        elif isinstance(node, ast.ImportFrom):
            base = ["linalg_ml", *package][: 1 + len(package) - (node.level - 1)] if node.level else []
            yield base + (node.module.split(".") if node.module else []), [a.name for a in node.names], at_top
        elif _is_import_call(node):
            yield node.args[0].value.split("."), [], at_top


def _is_import_call(node):
    """Tell ``import_module("name")``; a name that is put together cannot be judged."""
    called = isinstance(node, ast.Call) and _last_name(node.func) == "import_module"
    return called and isinstance(node.args[0], ast.Constant)


def _wrong_imports(file, tree):
    floor, room = _parts(file)[0], _parts(file)[-1]
    assert floor in BELOW, f"{file} is on no floor: add it to the tables of test_floors.py"
    for module, names, at_top in _imports(file, tree):
        dotted = ".".join(module)
        if module[0] == "linalg_ml":
            yield from _wrong_own_import(floor, room, module[1:], names)
        elif module[0] in SLOW:
            if at_top and floor not in ("_commands", "__main__") and room not in SLOW[module[0]]:
                yield f"{file} imports {dotted} at its top"
            if room.startswith("_kernels") and room != "_kernels_numba":
                yield f"{file} imports {dotted}: kernels know arrays alone"
        elif module[0] == "random":
            yield f"{file} imports Python's random numbers"


def _wrong_own_import(floor, room, module, names):
    """Yield what is wrong with an import of linalg_ml's own `module`, given without the package's name."""
    if not module:  # from linalg_ml import …: the floors themselves
        if set(names) <= {"__version__"} and names:
            return
        if not names and "" not in BELOW[floor]:
            yield f"{floor} imports the whole package"
        for name in names:
            if name != "__version__":
                yield from _wrong_own_import(floor, room, [name], [])
        return
    target, rooms = module[0], set(module[1:]) | (set(names) if len(module) == 1 else set())
    if target == "_commands" and floor not in ("_commands", "__main__"):
        yield f"{floor}/{room} imports {target}, which is above all"
    elif target != floor and target not in BELOW[floor]:
        yield f"{floor}/{room} imports {target}, which is not below it"
    if "_tour" in rooms and floor != "_commands":
        yield f"{floor}/{room} imports a _tour, which the tour alone loads"
    if floor not in WINGS:
        return
    if room.startswith("_kernels"):
        own = target == floor and room != "_kernels" and all(name.startswith("_kernels") for name in module[1:2])
        if target != "_core" and not own:
            yield f"{floor}/{room} imports {target}: kernels know _core alone"
    elif room in ("_estimators", "_tour"):
        if target not in (floor, "_core"):
            yield f"{floor}/{room} imports {target}: it may use its own rooms and _core"
    elif room == floor and target != floor:
        yield f"{floor}/__init__ imports {target}: it shows its own rooms"
    if target != floor and target in WINGS and any(name.startswith("_") for name in rooms):
        yield f"{floor}/{room} imports a private room of {target}"


def _wrong_words(file, tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg == "parallel" and getattr(node.value, "value", None) is True:
            yield f"{file} uses parallel=True: kernels are serial, the pool cuts the range"
        if _last_name(node) == "prange" or (isinstance(node, ast.alias) and node.name == "prange"):
            yield f"{file} uses prange"
        owner = _dotted(node.value) if isinstance(node, ast.Attribute) else ""
        if owner in ("np.random", "numpy.random") and node.attr not in RANDOM:
            yield f"{file} uses {_dotted(node)}, which is global state"
        if isinstance(node, ast.ImportFrom) and node.module == "numpy.random":
            yield from (f"{file} imports {a.name} of numpy.random" for a in node.names if a.name not in RANDOM)


def _last_name(node):
    return getattr(node, "id", getattr(node, "attr", ""))


def _dotted(node):
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return getattr(node, "id", "")


@pytest.mark.parametrize("file", FILES)
def test_file_keeps_the_floors(file):
    assert violations(file, (ROOT / file).read_text()) == []


def test_there_is_something_to_hold():
    assert {"_core/kernels.py", "_linalg/estimates.py", "sketching/_kernels.py", "__main__.py"} <= set(FILES)
    rooms = {
        path.name for wing in WINGS for path in (ROOT / wing).glob("*") if path.is_dir() and path.name != "__pycache__"
    }
    assert not rooms, "wings have no folders inside"


WRONG = {
    "up": ("_core/rows.py", "from .._linalg import estimates"),
    "up, absolutely": ("_core/rows.py", "import linalg_ml._linalg.estimates"),
    "up, by the package": ("_core/rows.py", "from .. import sketching"),
    "up, as a whole": ("_linalg/estimates.py", "import linalg_ml"),
    "up, in a function": ("_linalg/estimates.py", "def f():\n    from ..sketching import SRHT"),
    "up, for type checkers": ("_linalg/estimates.py", "if TYPE_CHECKING:\n    from ..cur import CUR"),
    "up, by a string": ("_core/rows.py", "import_module('linalg_ml.sketching')"),
    "sideways": ("monarch/_fit.py", "from ..sketching import SRHT"),
    "sideways, by the package": ("monarch/_fit.py", "from .. import kronecker"),
    "from below": ("sketching/_srht.py", "from ..sensitivity import leverage_scores"),
    "circle": ("sensitivity/_scores.py", "from ..cur import CUR"),
    "a private room": ("cur/_cur.py", "from ..sketching._transform import fwht"),
    "commands": ("sketching/_srht.py", "from .._commands import tour"),
    "commands, from the package": ("__init__.py", "from . import _commands"),
    "tour": ("sketching/_srht.py", "from . import _tour"),
    "kernel, workshop": ("sketching/_kernels.py", "from .._linalg.estimates import probes"),
    "kernel, algorithm": ("sketching/_kernels.py", "from ._transform import fwht"),
    "kernel, fast version": ("sketching/_kernels.py", "from . import _kernels_numba"),
    "fast version, algorithm": ("sketching/_kernels_numba.py", "from ._transform import fwht"),
    "CUDA, cupy": ("sketching/_kernels_cupy.py", "def f():\n    import cupy"),
    "kernel, numba": ("sketching/_kernels.py", "from numba import njit"),
    "estimator, workshop": ("sketching/_estimators.py", "from .._linalg import estimates"),
    "tour, other wing": ("cur/_tour.py", "from ..sketching import SRHT"),
    "front, ground": ("sketching/__init__.py", "from .._core.arrays import cast"),
    "slow": ("sketching/_srht.py", "import sklearn.base"),
    "slow, optional": ("_core/rows.py", "import dask"),
    "slow, for the tour only": ("sketching/_estimators.py", "import matplotlib.pyplot as plt"),
    "parallel": ("sketching/_kernels_numba.py", "@njit(nogil=True, parallel=True)\ndef f(): ..."),
    "prange": ("sketching/_kernels_numba.py", "from numba import prange"),
    "prange, dotted": ("sketching/_kernels_numba.py", "for i in numba.prange(3): ..."),
    "global state": ("sketching/_srht.py", "x = np.random.standard_normal(3)"),
    "global seed": ("sketching/_srht.py", "np.random.seed(0)"),
    "global state, imported": ("sketching/_srht.py", "from numpy.random import rand"),
    "Python's random": ("sketching/_srht.py", "import random"),
}
RIGHT = {
    "down": ("_linalg/estimates.py", "from .._core.arrays import cast"),
    "version": ("_core/kernels.py", "from .. import __version__"),
    "to the wing below": ("cur/_cur.py", "from ..sensitivity import scores\nfrom ..sketching import SRHT"),
    "own rooms": ("sketching/_srht.py", "from ._transform import fwht\nfrom ._kernels import mix_rows"),
    "generators": ("sketching/_srht.py", "rng = np.random.default_rng(0)\nassert isinstance(rng, np.random.Generator)"),
    "own random": ("sketching/_srht.py", "from .._core.random import key_of\nfrom .._core import random"),
    "slow, when needed": ("_core/rows.py", "def f():\n    from dask import bag"),
    "estimator": ("sketching/_estimators.py", "from sklearn.base import BaseEstimator\nfrom ._srht import SRHT"),
    "kernels": ("sketching/_kernels_numba.py", "import numba\nfrom .._core.jit import jit\nfrom ._kernels import rows"),
    "commands": ("_commands/info.py", "import linalg_ml\nfrom .._core import kernels"),
    "main": ("__main__.py", "from . import __version__, _commands"),
}


@pytest.mark.parametrize("case", WRONG)
def test_violations_are_found(case):
    assert violations(*WRONG[case])


@pytest.mark.parametrize("case", RIGHT)
def test_what_is_allowed_is_no_violation(case):
    assert violations(*RIGHT[case]) == []
