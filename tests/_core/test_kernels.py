"""The registry: which version runs, what is configured where, and what happens where a version cannot run."""

import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

import linalg_ml
from linalg_ml._core import kernels
from linalg_ml._core.kernels import Kernel, config_context, get_config, set_config, show_config

HERE = "made_up_kernels"


@pytest.fixture(autouse=True)
def own_config(monkeypatch):
    """Start every test from the defaults, and leave none of its settings behind."""
    monkeypatch.delenv("LINALG_ML_KERNELS", raising=False)
    monkeypatch.setattr(kernels, "_everywhere", {})


@pytest.fixture
def made(monkeypatch):
    """Make a kernel whose versions are given as functions; the reference answers "reference"."""

    def make(**versions):
        def answer(*args):
            return "reference"

        answer.__module__ = HERE
        for version, function in versions.items():
            module = ModuleType(f"{HERE}_{version}")
            if function is not None:
                module.answer = function
            monkeypatch.setitem(sys.modules, module.__name__, module)
        return Kernel(answer, lambda: [(np.ones(1),)], tuple(versions))

    return make


def failing(error):
    def version(*args):
        raise error

    return version


# --- choice -------------------------------------------------------------------------------------------


def test_arrays_choose(xp, made):
    kernel = made(numba=lambda *args: "numba", cupy=lambda *args: "cupy")
    library = xp.__name__.rpartition(".")[2]
    expected = {"numpy": "numba", "cupy": "cupy"}.get(library, "reference")
    assert kernel(xp.ones(2)) == kernel.choose((xp.ones(2),)) == expected
    assert kernel(3, xp.ones(2), np.ones(2)) == expected  # the first array, not the first argument
    assert made()(xp.ones(2)) == "reference"
    with config_context(kernels="reference"):
        assert kernel(xp.ones(2)) == "reference"


def test_versions_load_on_first_use_only(made):
    kernel = made()
    kernel.versions = ("numba",)  # of which there is no module at all
    assert f"{HERE}_numba" not in sys.modules
    with pytest.warns(RuntimeWarning, match="ModuleNotFoundError"):
        assert kernel(np.ones(2)) == "reference"


def test_load_reference(made):
    kernel = made()
    assert kernel.load("reference") is kernel.reference
    assert kernel.name == f"{HERE}.answer"


def test_decorator_registers(monkeypatch):
    monkeypatch.setattr(kernels, "REGISTRY", {})

    @kernels.kernel(cases=lambda: [(np.ones(1),)], versions=())
    def double(x):
        return 2 * x

    assert {f"{__name__}.double": double} == kernels.REGISTRY
    assert double(np.ones(1)) == 2


# --- settings -----------------------------------------------------------------------------------------


class TestConfig:
    def test_default(self):
        assert get_config() == {"kernels": "auto"}

    def test_set_config(self):
        set_config(kernels="reference")
        assert get_config() == {"kernels": "reference"}
        set_config()
        assert get_config() == {"kernels": "reference"}

    def test_contexts_nest_and_end(self):
        with config_context(kernels="reference"):
            with config_context(kernels="auto"):
                assert get_config()["kernels"] == "auto"
            with config_context():
                assert get_config()["kernels"] == "reference"
        assert get_config()["kernels"] == "auto"

    def test_context_ends_after_an_error(self):
        with pytest.raises(KeyError), config_context(kernels="reference"):
            raise KeyError
        assert get_config()["kernels"] == "auto"

    def test_context_goes_before_set_config(self):
        with config_context(kernels="reference"):
            set_config(kernels="auto")
            assert get_config()["kernels"] == "reference"

    def test_context_is_of_one_thread_set_config_of_all(self):
        def elsewhere():
            with ThreadPoolExecutor(1) as pool:
                return pool.submit(get_config).result()["kernels"]

        with config_context(kernels="reference"):
            assert elsewhere() == "auto"
        set_config(kernels="reference")
        assert elsewhere() == "reference"

    def test_environment(self, monkeypatch):
        monkeypatch.setenv("LINALG_ML_KERNELS", "reference")
        assert get_config()["kernels"] == "reference"
        set_config(kernels="auto")
        assert get_config()["kernels"] == "auto"

    def test_empty_environment_is_none(self, monkeypatch):
        monkeypatch.setenv("LINALG_ML_KERNELS", "")
        assert get_config()["kernels"] == "auto"

    def test_bad_environment(self, monkeypatch):
        monkeypatch.setenv("LINALG_ML_KERNELS", "fast")
        message = "the environment variable LINALG_ML_KERNELS must be 'auto' or 'reference', got 'fast'"
        with pytest.raises(ValueError, match=message):
            linalg_ml.get_config()

    @pytest.mark.parametrize("value", ["fast", "", 1, True])
    def test_bad_values(self, value):
        with pytest.raises(ValueError, match="kernels must be 'auto' or 'reference', got "):
            set_config(kernels=value)
        with pytest.raises(ValueError, match="kernels must be"), config_context(kernels=value):
            pass
        assert get_config()["kernels"] == "auto"

    def test_unknown_settings(self):
        with pytest.raises(TypeError):
            set_config(threads=3)


# --- versions that cannot run -------------------------------------------------------------------------


def numba_error():
    return pytest.importorskip("numba").core.errors.LoweringError("no such instruction")


class TestFallback:
    @pytest.mark.parametrize(
        "error",
        [
            ImportError("no numba here"),
            OSError("undefined symbol"),
            RuntimeError("LLVM is unwell\nin many lines"),
            pytest.param(None, id="NumbaError"),
        ],
    )
    def test_one_warning_says_why(self, made, error):
        error = error or numba_error()
        kernel = made(numba=failing(error))
        first_line = str(error).splitlines()[0]
        with pytest.warns(RuntimeWarning, match=rf"numba version of {HERE}.answer .* {first_line}") as caught:
            assert kernel(np.ones(2)) == "reference"
        assert len(caught) == 1
        assert caught[0].filename == __file__  # the line that called the kernel
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert kernel(np.ones(2)) == "reference"
        assert list(kernel.failed) == ["numba"]

    def test_other_kernels_go_on(self, made):
        broken, sound = made(numba=failing(ImportError("x"))), made(numba=lambda *args: "numba")
        broken.versions, broken.failed = ("numba",), {"numba": "x"}
        assert broken(np.ones(2)) == "reference"
        assert sound(np.ones(2)) == "numba"

    @pytest.mark.parametrize("error", [ValueError, TypeError, IndexError, np.linalg.LinAlgError, MemoryError, KeyError])
    def test_errors_of_the_arguments_are_not_swallowed(self, made, error):
        kernel = made(numba=failing(error("these arguments")))
        with pytest.raises(error, match="these arguments"):
            kernel(np.ones(2))
        assert not kernel.failed

    def test_version_that_was_forgotten_is_a_bug_and_not_a_fallback(self, made):
        with pytest.raises(AttributeError, match="answer"):
            made(numba=None)(np.ones(2))


def test_real_kernel_falls_back(monkeypatch):
    from linalg_ml._core._kernels import philox_words

    case = np.arange(3, dtype=np.uint64), 0, 4, 0, 7
    expected = philox_words(*case)
    monkeypatch.setattr(philox_words, "failed", {})
    monkeypatch.setitem(sys.modules, "linalg_ml._core._kernels_numba", None)  # importing it is an ImportError
    with pytest.warns(RuntimeWarning, match="philox_words could not be loaded"):
        np.testing.assert_array_equal(philox_words(*case), expected)


# --- CUDA modules -------------------------------------------------------------------------------------


def test_cuda_module(monkeypatch):
    made = []

    def raw_module(**kwargs):
        made.append(kwargs)
        return object()

    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(RawModule=raw_module))
    kernels.cuda_module.cache_clear()
    try:
        module = kernels.cuda_module("code", "REAL=float", "N=3")
        assert kernels.cuda_module("code", "REAL=float", "N=3") is module  # compiled once
        assert kernels.cuda_module("code", "REAL=double", "N=3") is not module
    finally:
        kernels.cuda_module.cache_clear()
    assert made[0]["code"] == "code"
    assert {"-DREAL=float", "-DN=3", "--fmad=false"} <= set(made[0]["options"])


# --- show_config --------------------------------------------------------------------------------------


class TestShowConfig:
    def test_says_what_would_run(self, capsys):
        show_config()
        text = capsys.readouterr().out
        assert f"linalg_ml {linalg_ml.__version__}" in text
        assert f"numpy         {np.__version__}" in text
        assert "NumPy arrays    Numba kernels" in text
        assert "kernels         'auto'" in text
        for name in kernels.load_all():
            assert name.partition(".")[2] in text

    def test_says_why_the_reference(self, capsys):
        with config_context(kernels="reference"):
            show_config()
        assert "NumPy arrays    reference kernels, because kernels='reference'" in capsys.readouterr().out

    def test_says_what_failed(self, capsys, monkeypatch):
        from linalg_ml._core._kernels import philox_words

        monkeypatch.setattr(philox_words, "failed", {"numba": "OSError: no symbol"})
        show_config()
        assert "numba failed: OSError: no symbol" in capsys.readouterr().out
