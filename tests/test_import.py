"""What importing costs: nothing heavy is loaded before it is used."""

import os
import subprocess
import sys

import pytest

import linalg_ml

HEAVY = ["numba", "llvmlite", "sklearn", "cupy", "torch", "dask", "distributed", "matplotlib", "pandas", "tqdm"]
WINGS = [name for name in linalg_ml.__all__ if hasattr(getattr(linalg_ml, name), "__path__")]


def run(script):
    """Run a script in a fresh Python, as a user has it: without the tests' environment."""
    environment = {name: value for name, value in os.environ.items() if name != "SCIPY_ARRAY_API"}
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=environment, timeout=120, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.split()


def loaded(statements, among):
    return set(run(f"{statements}\nimport sys\nprint(*[name for name in {among!r} if name in sys.modules])"))


@pytest.mark.parametrize(
    "statements",
    [
        "import linalg_ml",
        "import linalg_ml; linalg_ml.__version__; dir(linalg_ml); hasattr(linalg_ml, 'nothing')",
        "from linalg_ml import config_context, get_config, set_config, show_config; get_config()",
    ],
)
def test_the_package_loads_next_to_nothing(statements):
    assert loaded(statements, [*HEAVY, "numpy", "scipy"]) == set()


@pytest.mark.parametrize("wing", WINGS)
def test_wings_load_nothing_heavy(wing):
    assert loaded(f"from linalg_ml import {wing}; dir({wing})", HEAVY) == set()


def test_heavy_modules_are_noticed():
    assert "tqdm" in loaded("import linalg_ml, tqdm", HEAVY)


def test_works_without_scipys_array_api_switch():
    use = "from linalg_ml.sketching import fwht; print('SCIPY_ARRAY_API' in os.environ, *fwht(np.ones(2)))"
    assert run(f"import os, numpy as np; {use}") == ["False", "2.0", "0.0"]


def test_dir_shows_what_is_there():
    assert set(linalg_ml.__all__) <= set(dir(linalg_ml))
    for name in linalg_ml.__all__:
        assert getattr(linalg_ml, name) is not None
    assert linalg_ml.__all__ == sorted(set(linalg_ml.__all__))


@pytest.mark.parametrize("module", [linalg_ml, linalg_ml.sketching], ids=lambda module: module.__name__)
def test_unknown_names(module):
    with pytest.raises(AttributeError, match=f"module '{module.__name__}' has no attribute 'no_such_name'"):
        _ = module.no_such_name
    with pytest.raises(ImportError, match="no_such_name"):
        exec(f"from {module.__name__} import no_such_name")


def test_names_of_wings():
    for wing in (getattr(linalg_ml, name) for name in WINGS):
        assert set(wing.__all__) <= set(dir(wing))
        for inner in wing.__all__:
            assert not inner.startswith("_")
            assert getattr(wing, inner).__name__ == inner


def test_star_import():
    names = {}
    exec("from linalg_ml import *", names)
    assert {name for name in names if name != "__builtins__"} == set(linalg_ml.__all__)


def test_version():
    from importlib.metadata import version

    from packaging.version import Version

    assert Version(linalg_ml.__version__) == Version(version("linalg_ml"))
