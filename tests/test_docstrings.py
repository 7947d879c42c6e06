"""Every public name is documented in full, in numpydoc's form.

Held by numpydoc's own validation, of which the checks below are those that DESIGN asks for. Doctest runs the
examples themselves.
"""

import ast
import inspect
import sys
import textwrap
from dataclasses import is_dataclass
from importlib import import_module
from types import ModuleType

import pytest
from numpydoc import docscrape, validate

import linalg_ml

FORM = {
    "GL02": "closing quotes on a line of their own",
    "GL03": "double blank lines",
    "GL06": "unknown section",
    "GL07": "sections in the wrong order",
    "GL08": "no docstring",
    "SS01": "no summary",
    "SS03": "summary does not end with a period",
    "SS04": "summary starts with spaces",
    "SS06": "summary is not one line",
    "PR01": "parameters not documented",
    "PR02": "documented parameters that are none",
    "PR03": "parameters in the wrong order",
    "PR04": "parameter without type",
    "PR06": "parameter type misspelt",
    "PR07": "parameter without description",
    "PR10": "no space before the colon of a parameter",
}
OF_FUNCTIONS = {"SS05": "summary in the third person", "RT01": "no Returns", "RT03": "returned value not described"}
EXAMPLES = {"EX01": "no Examples"}


def public():
    """Yield (dotted name, object) of all that the package shows: functions, classes, and their members."""
    for name in linalg_ml.__all__:
        value = getattr(linalg_ml, name)
        if isinstance(value, ModuleType):
            yield value.__name__, value
            for inner in value.__all__:
                yield from _with_members(f"{value.__name__}.{inner}", getattr(value, inner))
        elif callable(value):
            yield from _with_members(f"linalg_ml.{name}", value)


def _with_members(name, value):
    yield name, value
    if inspect.isclass(value):
        for member, found in inspect.getmembers_static(value):
            owner = next(c for c in value.__mro__ if member in vars(c))
            if not member.startswith("_") and owner.__module__.startswith("linalg_ml"):
                found = found.__func__ if isinstance(found, classmethod | staticmethod) else found
                if inspect.isfunction(found) or isinstance(found, property):
                    yield f"{name}.{member}", found


PUBLIC = dict(public())
FUNCTIONS = [name for name, value in PUBLIC.items() if inspect.isfunction(value)]
CLASSES = [name for name, value in PUBLIC.items() if inspect.isclass(value)]
MEMBERS = [name for name in PUBLIC if name.rpartition(".")[0] in CLASSES]
MODULES = [name for name, value in PUBLIC.items() if inspect.ismodule(value)]


def errors(name, codes):
    """Return what numpydoc finds of these kinds."""
    return [f"{code}: {text}" for code, text in validate.validate(name)["errors"] if code in codes]


def is_result(value):
    """Tell results: users get them from functions, whose examples show them."""
    return is_dataclass(value) and value.__name__.endswith(("Result", "Estimate"))


def from_the_ground(name):
    """Tell members that a class has from `_core`, where they are documented once and briefly."""
    return PUBLIC[name].__module__.startswith("linalg_ml._core") if inspect.isfunction(PUBLIC[name]) else False


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name not in MEMBERS])
class TestFunctions:
    def test_form(self, name):
        returns_nothing = "None" in str(inspect.signature(PUBLIC[name]).return_annotation)
        form = {code for code in OF_FUNCTIONS if not (returns_nothing and code == "RT01")}
        assert errors(name, {*FORM, *form, *EXAMPLES}) == []

    def test_raises(self, name):
        """A function that raises, or calls a check, says what."""
        tree = ast.parse(textwrap.dedent(inspect.getsource(PUBLIC[name])))
        calls = [n.func for n in ast.walk(tree) if isinstance(n, ast.Call)]
        checks = [c for c in calls if getattr(c, "id", getattr(c, "attr", "")).lstrip("_").startswith("check")]
        if checks or any(isinstance(node, ast.Raise) for node in ast.walk(tree)):
            assert docscrape.FunctionDoc(PUBLIC[name])["Raises"], f"{name} has no Raises section"

    def test_example_shows_the_call(self, name):
        example = "\n".join(docscrape.FunctionDoc(PUBLIC[name])["Examples"])
        assert ">>>" in example
        assert name.rpartition(".")[2] in example


@pytest.mark.parametrize("name", CLASSES)
class TestClasses:
    def test_form(self, name):
        examples = {} if is_result(PUBLIC[name]) else EXAMPLES
        codes = {*FORM, *examples}
        if is_dataclass(PUBLIC[name]):
            codes -= {"PR01"}  # fields may be documented as attributes instead, see below
        assert errors(name, codes) == []

    def test_fields(self, name):
        if is_dataclass(PUBLIC[name]):
            doc = docscrape.NumpyDocString(inspect.getdoc(PUBLIC[name]))
            said = {
                p for section in ("Attributes", "Parameters") for entry in doc[section] for p in entry.name.split(", ")
            }
            fields = {field for field in PUBLIC[name].__dataclass_fields__ if not field.startswith("_")}
            assert fields <= said

    def test_example_is_there(self, name):
        if not is_result(PUBLIC[name]):
            doc = docscrape.NumpyDocString(inspect.getdoc(PUBLIC[name]))
            assert ">>>" in "\n".join(doc["Examples"])


@pytest.mark.parametrize("name", MEMBERS)
def test_members(name):
    """A method has a summary and its parameters; one that the ground floor gives to all classes, a summary."""
    summary = {"GL08", "SS01", "SS03", "SS04", "SS06"}
    codes = summary if from_the_ground(name) or isinstance(PUBLIC[name], property) else {*FORM, "SS05"}
    assert errors(name, codes) == []


@pytest.mark.parametrize("name", MODULES)
def test_wings_say_what_they_are_for(name):
    doc = inspect.getdoc(import_module(name))
    assert doc
    summary, _, rest = doc.partition("\n\n")
    assert summary.strip().endswith(".")
    assert rest.strip(), "the head of a wing says when to use what"


def test_there_is_something_to_hold():
    assert {"linalg_ml.set_config", "linalg_ml.sketching"} <= set(PUBLIC)


# --- the rules bite -----------------------------------------------------------------------------------


def undescribed(x, y):
    """Adds

    Parameters
    ----------
    x : int
    z : int
        Wrong name.
    """
    return x + y


def test_wrong_docstrings_are_found(monkeypatch):
    monkeypatch.setitem(sys.modules, "undescribed_module", ModuleType("undescribed_module"))
    sys.modules["undescribed_module"].undescribed = undescribed
    found = {error[:4] for error in errors("undescribed_module.undescribed", {*FORM, *OF_FUNCTIONS, *EXAMPLES})}
    assert {"SS03", "SS05", "PR01", "PR02", "PR07", "RT01", "EX01"} <= found
