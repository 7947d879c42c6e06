"""What all tests share: the array libraries that are here, a small dask cluster, and Hypothesis's profiles."""

import os

os.environ["SCIPY_ARRAY_API"] = "1"  # SciPy reads it once, and scikit-learn's array dispatch needs it

from functools import cache
from importlib import import_module, metadata, util

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "quick",
    derandomize=True,
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # ours give the same to every example
)
settings.register_profile("thorough", parent=settings.get_profile("quick"), derandomize=False, max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))

NAMESPACES = {  # array-api-compat's name, and the distributions that may hold it
    "numpy": ("array_api_compat.numpy", ["numpy"]),
    "array_api_strict": ("array_api_strict", ["array-api-strict"]),
    "torch": ("array_api_compat.torch", ["torch"]),
    "cupy": ("array_api_compat.cupy", ["cupy-cuda12x", "cupy-cuda13x", "cupy"]),
}


@cache
def why_absent(name):
    """Return why a namespace cannot be tested here, "" if it can."""
    if util.find_spec(name) is None:
        return f"{name} is not installed"
    if name == "cupy":
        runtime = import_module("cupy.cuda.runtime")
        try:
            runtime.getDeviceCount()
        except runtime.CUDARuntimeError as error:
            return f"cupy finds no device: {error}"
    return ""


def load_namespace(name):
    if why_absent(name):
        pytest.skip(why_absent(name))
    return import_module(NAMESPACES[name][0])


def _version(name):
    for distribution in NAMESPACES[name][1]:
        try:
            return metadata.version(distribution)
        except metadata.PackageNotFoundError:
            continue
    return ""


def pytest_report_header():
    there = ", ".join(f"{name} {_version(name)}" for name in NAMESPACES if not why_absent(name))
    absent = "; ".join(filter(None, map(why_absent, NAMESPACES)))
    return f"array namespaces: {there}" + f" ({absent})" * bool(absent)


@pytest.fixture(params=NAMESPACES)
def xp(request):
    """Give each array-API namespace in turn, as array-api-compat has it."""
    return load_namespace(request.param)


@pytest.fixture(params=[name for name in NAMESPACES if name != "numpy"])
def other_xp(request):
    """Give each namespace but NumPy."""
    return load_namespace(request.param)


@pytest.fixture(scope="session")
def client():
    """Give a client of one small cluster; it is not dask's default, see `dask_scheduler`."""
    distributed = pytest.importorskip("distributed")
    sizes = {"n_workers": 2, "threads_per_worker": 1, "memory_limit": 0}
    with (
        distributed.LocalCluster(**sizes, dashboard_address=":0") as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        yield client


@pytest.fixture(params=["threads", "cluster"])
def dask_scheduler(request):
    """Run dask on threads of this process, and on the workers of a cluster."""
    pytest.importorskip("dask.array")
    if request.param == "threads":
        with import_module("dask").config.set(scheduler="threads"):
            yield request.param
    else:
        with request.getfixturevalue("client").as_current():
            yield request.param
