"""Every fast version of every kernel against its reference, found by walking the registry.

A kernel's `cases` are run as they are, with their first array in other layouts, on other namespaces and, for
CUDA, by the real launcher and the real source on the CPU.
"""

import inspect
import typing
from importlib import import_module
from pkgutil import walk_packages

import numpy as np
import pytest
from conftest import load_namespace
from cuda_cpu import CpuModule, compile_cuda, find_compiler, find_nvrtc
from matrices import layouts

import linalg_ml
from linalg_ml._core import kernels
from linalg_ml._core.arrays import to_numpy

KERNELS = kernels.load_all()
VERSIONS = [(name, version) for name, kernel in KERNELS.items() for version in kernel.versions]
CUDA_MODULES = [
    module.name for module in walk_packages(linalg_ml.__path__, "linalg_ml.") if module.name.endswith("._kernels_cupy")
]
LAYOUT_LIMIT = 10**5  # elements of the first array: layouts are about strides, not about size


# --- calling ------------------------------------------------------------------------------------------


def is_array(value):
    return isinstance(value, np.ndarray)


def copied(case):
    """Return the arguments afresh: a kernel may be allowed to write to some."""
    return tuple(arg.copy(order="K") if is_array(arg) else arg for arg in case)


def parameters(kernel):
    return list(inspect.signature(kernel.reference).parameters)


def may_write(kernel, case):
    """Return the names of arguments that this call may write to: `out`, `out_…`, and data where overwrite is set."""
    named = dict(zip(parameters(kernel), case, strict=True))
    data = next(name for name, value in named.items() if is_array(value))
    overwrite = any(name.startswith("overwrite") and value for name, value in named.items())
    return {name for name in named if name.partition("_")[0] == "out"} | ({data} if overwrite else set())


def _overwrites(kernel, case):
    return any(not name.startswith("out") for name in may_write(kernel, case))


def outputs(result):
    """Return a kernel's results as a list of NumPy arrays; None is where nothing was asked for."""
    results = result if isinstance(result, tuple) else (result,)
    results = [r for r in results if r is not None]
    return [np.asarray(r) if np.isscalar(r) else to_numpy(r) for r in results]


def call(kernel, function, case):
    """Run one version; what it may not write to must be as it was."""
    args = copied(case)
    results = [r.copy() for r in outputs(function(*args))]
    free = may_write(kernel, case)
    for name, before, after in zip(parameters(kernel), case, args, strict=True):
        if is_array(before) and name not in free:
            np.testing.assert_array_equal(after, before, err_msg=f"{name} was written to")
    return results


def assert_same(got, expected, case):
    """Integers must be equal to the bit; floats to the rounding of sums as long as the data."""
    assert len(got) == len(expected)
    size = max(arg.size for arg in case if is_array(arg))
    for ours, theirs in zip(got, expected, strict=True):
        assert ours.shape == theirs.shape
        assert ours.dtype == theirs.dtype
        if not np.issubdtype(theirs.dtype, np.inexact):
            np.testing.assert_array_equal(ours, theirs)
            continue
        finite = np.abs(theirs[np.isfinite(theirs)])
        kinds = [theirs.dtype, *(value.dtype for value in case if is_array(value) and value.dtype.kind in "fc")]
        eps = max(np.finfo(kind).eps for kind in kinds)  # sums of narrow numbers may be wide
        tolerance = eps * (8 + size**0.5) * finite.max(initial=0)
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance)


def assert_as_good(got, expected, case):
    """Hold approximations of slices by rank one: what they capture, and themselves where they are unique."""
    eps = np.finfo(case[0].dtype).eps
    for ours, theirs in zip(got, expected, strict=True):
        assert ours.shape == theirs.shape
        assert ours.dtype == theirs.dtype
    (_, right, sigma, gap, residual, norm, suspect), (*_, true_sigma, true_gap, true_residual, true_norm, _) = (
        got,
        expected,
    )
    assert not suspect.any()
    np.testing.assert_allclose(norm, true_norm, rtol=20 * eps)
    size = np.where(true_norm > 0, true_norm, 1)
    np.testing.assert_allclose(sigma / size, true_sigma / size, rtol=0, atol=100 * eps)
    np.testing.assert_allclose(residual / size, true_residual / size, rtol=0, atol=100 * eps)
    np.testing.assert_allclose(gap, true_gap, rtol=0, atol=0.05)
    assert (right.max(axis=-1) >= -right.min(axis=-1)).all()
    products = [rank_one_products(*result[:2], size) for result in (got, expected)]
    unique = true_gap > 1e-6
    difference = np.abs(products[0] - products[1]).max(axis=(-2, -1))
    assert (difference[unique] <= 100 * eps / true_gap[unique]).all()
    kept = ~np.isfinite(norm) | (norm == 0)
    assert not products[0][kept].any()


def rank_one_products(left, right, size):
    """Return the slices (batch, K, J, p, q) that the factors make, divided by their sizes."""
    root = np.sqrt(np.where(np.isfinite(size), size, 1))[..., None]
    u, v = left.transpose(0, 3, 1, 2) / root, right / root
    return u[..., :, None] * v[..., None, :]


RULES = {"linalg_ml.monarch._kernels.rank_one": assert_as_good}  # where results are not unique


def hold(kernel, function, case, label):
    try:
        expected = call(kernel, kernel.reference, case)
        RULES.get(kernel.name, assert_same)(call(kernel, function, case), expected, case)
    except Exception as error:
        error.add_note(f"{kernel.name}, {label}: {describe(kernel, case)}")
        raise


def describe(kernel, case):
    return ", ".join(
        f"{name}={value.dtype}{value.shape}" if is_array(value) else f"{name}={value!r}"
        for name, value in zip(parameters(kernel), case, strict=True)
    )


# --- declarations -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", KERNELS)
class TestDeclarations:
    def test_cases(self, name):
        kernel = KERNELS[name]
        cases = list(kernel.cases())
        assert cases, "a kernel without a case is never held against its reference"
        for case in cases:
            assert len(case) == len(parameters(kernel))
            assert any(map(is_array, case)), "the arrays choose the version, so there must be one"

    def test_versions(self, name):
        for version in KERNELS[name].versions:
            assert version in ("numba", "cupy")
            assert callable(KERNELS[name].load(version))

    def test_every_version_takes_the_arguments_of_the_reference(self, name):
        kernel = KERNELS[name]
        for version in kernel.versions:
            assert list(inspect.signature(kernel.load(version)).parameters) == parameters(kernel)


def test_kernels_without_cases_cannot_be_declared():
    with pytest.raises(TypeError, match="cases"):
        kernels.kernel(versions=())


def _double(x: np.ndarray) -> np.ndarray:
    return 2 * x


def _off(x):
    return 2 * x * (1 + 1e-3)


def _narrow(x):
    return (2 * x).astype(np.float32)


def _in_place(x):
    x *= 2
    return x


def _too_long(x):
    return np.append(2 * x, 0)


def _not_a_number(x):
    return np.where(x > 2, np.nan, 2 * x)


@pytest.mark.parametrize("version", [_off, _narrow, _in_place, _too_long, _not_a_number])
def test_wrong_versions_are_told(version):
    kernel = kernels.Kernel(_double, lambda: [(np.arange(5.0),)], ())
    for case in kernel.cases():
        hold(kernel, lambda x: x + x, case, "a right version")
        with pytest.raises(AssertionError):
            hold(kernel, version, case, "a wrong version")


# --- versions -----------------------------------------------------------------------------------------


@pytest.fixture(params=["forward", "reverse"])
def on_cpu(request, monkeypatch):
    """Run CUDA sources on the CPU, the threads in this order."""
    if find_compiler() is None:
        pytest.skip("no C++ compiler, or not Linux: CUDA sources cannot run on the CPU")
    monkeypatch.setattr(CpuModule, "reverse", request.param == "reverse")
    replace_cuda_module(monkeypatch, lambda code, defines: CpuModule(code=code, options=[f"-D{d}" for d in defines]))


def replace_cuda_module(monkeypatch, stand_in):
    """Have every launcher use `stand_in`, which sees nothing that `VARIANTS` does not list."""
    for name in CUDA_MODULES:
        module = import_module(name)

        def checked(source, *defines, variants=module.VARIANTS):
            assert (source, defines) in [(code, tuple(given)) for code, given in variants], f"not listed: {defines}"
            return stand_in(source, defines)

        monkeypatch.setattr(module, "cuda_module", checked)


@pytest.mark.parametrize("name", [name for name, version in VERSIONS if version == "numba"])
class TestNumba:
    def test_cases(self, name):
        kernel = KERNELS[name]
        for number, case in enumerate(kernel.cases()):
            hold(kernel, kernel.load("numba"), case, f"case {number}")

    def test_layouts(self, name):
        hold_layouts(KERNELS[name], "numba")

    def test_threads_do_not_change_the_result(self, name, monkeypatch):
        from linalg_ml._core import threads

        kernel = KERNELS[name]
        function = kernel.load("numba")
        for case in kernel.cases():
            monkeypatch.setattr(threads, "_SERIAL", np.inf)
            serial = call(kernel, function, case)
            monkeypatch.setattr(threads, "_SERIAL", 0)  # cut even the smallest range
            assert_same(call(kernel, function, case), serial, case)


@pytest.mark.parametrize("name", [name for name, version in VERSIONS if version == "cupy"])
@pytest.mark.usefixtures("on_cpu")
class TestCuda:
    def test_cases(self, name):
        kernel = KERNELS[name]
        for number, case in enumerate(kernel.cases()):
            hold(kernel, kernel.load("cupy"), case, f"case {number}")

    def test_layouts(self, name):
        hold_layouts(KERNELS[name], "cupy")


def hold_layouts(kernel, version):
    """Hold a version on the first array in every layout, for the largest case of each dtype that is not large."""
    chosen = {}
    for case in kernel.cases():
        first = next(i for i, arg in enumerate(case) if is_array(arg))
        if case[first].size <= LAYOUT_LIMIT and not _overwrites(kernel, case):
            key = tuple(arg.dtype for arg in case if is_array(arg))
            if key not in chosen or case[first].size > chosen[key][0][chosen[key][1]].size:
                chosen[key] = case, first
    assert chosen
    for case, first in chosen.values():
        for layout, array in layouts(case[first]):
            expected = call(kernel, kernel.reference, case)
            args = [*copied(case[:first]), array, *copied(case[first + 1 :])]
            try:
                RULES.get(kernel.name, assert_same)(outputs(kernel.load(version)(*args)), expected, case)
                np.testing.assert_array_equal(array, case[first], err_msg="the data was written to")
            except Exception as error:
                error.add_note(f"{kernel.name}, {version}, {layout}: {describe(kernel, case)}")
                raise


# --- the reference on other namespaces ----------------------------------------------------------------

LACKS_UNSIGNED = {"torch"}


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("library", ["array_api_strict", "torch", "cupy"])
def test_reference_on_other_namespaces(name, library):
    """Arguments annotated np.ndarray lie on the host; all other arrays are of the namespace."""
    kernel, xp = KERNELS[name], load_namespace(library)
    hints = typing.get_type_hints(kernel.reference)
    moved = [hints.get(parameter) is not np.ndarray for parameter in parameters(kernel)]

    def reference(*args):
        pairs = zip(args, moved, strict=True)
        # asarray refuses negative strides on PyTorch: layouts are NumPy's own affair
        return kernel.reference(*(xp.asarray(a.copy()) if move and is_array(a) else a for a, move in pairs))

    for number, case in enumerate(kernel.cases()):
        unsigned = any(move and is_array(a) and a.dtype.kind == "u" for a, move in zip(case, moved, strict=True))
        if unsigned and library in LACKS_UNSIGNED:
            pytest.skip(f"{library} lacks most unsigned arithmetic: callers draw on the host")
        hold(kernel, reference, case, f"case {number} on {library}")


# --- CUDA sources -------------------------------------------------------------------------------------


def variants():
    for name in CUDA_MODULES:
        for number, (source, defines) in enumerate(getattr(import_module(name), "VARIANTS", [])):
            yield pytest.param(source, defines, id=f"{name.split('.')[1]}-{number}-{'-'.join(defines)}")


@pytest.mark.skipif(find_nvrtc() is None, reason="NVRTC (nvidia-cuda-nvrtc) is not installed")
@pytest.mark.parametrize("arch", ["sm_75", "sm_80", "sm_90"])
@pytest.mark.parametrize(("source", "defines"), list(variants()))
def test_sources_compile(source, defines, arch):
    compile_cuda(find_nvrtc(), source, arch, ["--std=c++17", "--fmad=false", *(f"-D{d}" for d in defines)])


@pytest.mark.parametrize("name", CUDA_MODULES)
class TestSources:
    def test_every_source_is_listed(self, name):
        module = import_module(name)
        listed = [source for source, _ in module.VARIANTS]
        own = {key: text for key, text in vars(module).items() if isinstance(text, str) and "__global__" in text}
        unlisted = [key for key, text in own.items() if not any(text in source for source in listed)]
        assert listed
        assert not unlisted

    def test_every_variant_is_launched_by_some_case(self, name, monkeypatch):
        launched = set()

        class Silent:
            def __init__(self, *variant):
                launched.add(variant)

            def get_function(self, name):
                return lambda *args, **kwargs: None

        replace_cuda_module(monkeypatch, Silent)
        for kernel in KERNELS.values():
            if "cupy" in kernel.versions and f"{kernel.reference.__module__}_cupy" == name:
                for case in kernel.cases():
                    kernel.load("cupy")(*copied(case))
        assert launched == {(source, tuple(defines)) for source, defines in import_module(name).VARIANTS}
