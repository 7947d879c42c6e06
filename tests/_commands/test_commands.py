"""The command line: what is printed, what is written, and what it says of failures."""

import os
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from linalg_ml import __version__
from linalg_ml.__main__ import find_commands, main
from linalg_ml._commands import _pictures, _text, tour
from linalg_ml._core import kernels
from linalg_ml._core.tour import TourStop


def _draw(figure):
    figure.subplots().plot([1, 2, 3])


STOP = TourStop(
    capability="Shrinking <tall> matrices",
    purpose="Keeps A & loses nothing",
    code="B = shrink(A) if 1 < 2 else A",
    data="handwritten digits",
    size="1797 × 64",
    quality="3 % off",
    error_name="‖A − B‖_F / ‖A‖_F",
    claimed_error=0.0345,
    true_error=0.0321,
    seconds=0.00042,
    usual_tool="numpy A.T @ A",
    usual_seconds=0.0131,
    bytes_before=919_808,
    bytes_after=131_072,
    picture=_draw,
    caption="A line <rising>",
)


def _broken():
    raise RuntimeError("no <data> here")


@pytest.fixture
def stops(monkeypatch):
    """Put stops in the place of those that the wings bring."""

    def put(**found):
        monkeypatch.setattr(tour, "find_stops", lambda: found)

    return put


@pytest.fixture
def take(tmp_path, capsys):
    """Run the tour; return its exit code, what it printed, and the page it wrote."""
    path = tmp_path / "page.html"

    def run(*options):
        code = main(["tour", "-o", str(path), *options])
        return code, capsys.readouterr().out, path.read_text(encoding="utf-8")

    return run


# --- the program --------------------------------------------------------------------------------------


@pytest.mark.parametrize("argv", [[], ["--help"]])
def test_help_lists_the_commands_with_a_line_each(argv, capsys):
    if argv:
        with pytest.raises(SystemExit, match="0"):
            main(argv)
    else:
        assert main(argv) == 0
    out = capsys.readouterr().out
    for name in ("info", "tour", "warmup"):
        assert re.search(rf"^ +{name} +\w", out, re.MULTILINE)


def test_every_command_says_what_it_does():
    for command in find_commands():
        assert command.__doc__.partition("\n")[0].endswith(".")


def test_version(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out.strip() == f"linalg_ml {__version__}"


def test_unknown_command_is_refused(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["dance"])
    assert "dance" in capsys.readouterr().err


def test_help_loads_nothing_heavy():
    script = (
        "import sys; from linalg_ml.__main__ import main; main([]);"
        "assert not {'numpy', 'numba', 'matplotlib'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("too\nsmall"), "linalg-ml tour: error: too small\n"),
        (ValueError(), "linalg-ml tour: error: ValueError\n"),
        (FileNotFoundError(2, "No such file", "a.npy"), "linalg-ml tour: error: a.npy: No such file\n"),
    ],
)
def test_errors_meant_for_the_user_are_one_line(error, said, monkeypatch, capsys):
    def raise_it():
        raise error

    monkeypatch.setattr(tour, "find_stops", raise_it)
    assert main(["tour", "--no-html"]) == 2
    assert capsys.readouterr().err == said


@pytest.mark.skipif(os.name != "posix", reason="pipes break so on POSIX")
def test_reader_that_leaves_early_is_no_error():
    command = f"{sys.executable} -m linalg_ml info | true"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_console_without_the_signs(stops):
    script = (
        "from linalg_ml.__main__ import main; from linalg_ml._commands import _text, tour;"
        "tour.find_stops = dict; tour._table = lambda visits: '1797 × 64'; main(['tour', '--no-html'])"
    )
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, check=True)
    assert b"1797 ? 64" in done.stdout


def test_interrupt_is_quiet(stops, capsys):
    def interrupt():
        raise KeyboardInterrupt

    stops(wing=interrupt)
    assert main(["tour", "--no-html"]) == 130


# --- info and warmup ----------------------------------------------------------------------------------


def test_info_prints_the_configuration(capsys):
    assert main(["info"]) == 0
    assert f"linalg_ml {__version__}" in capsys.readouterr().out


class _FakeKernel:
    versions = ("numba",)

    def __init__(self, name, function):
        self.name, self.function, self.calls = name, function, []

    def load(self, version):
        return {"numba": self.function}[version]

    def cases(self):
        yield from [(np.zeros(1), 1), (np.zeros(0), 2)]


@pytest.fixture
def registry(monkeypatch):
    def put(*items):
        monkeypatch.setattr(kernels, "load_all", lambda: {item.name: item for item in items})

    return put


def test_warmup_calls_every_case_and_reports(registry, capsys):
    seen = []
    registry(_FakeKernel("good", lambda array, number: seen.append(number)))
    assert main(["warmup", "--quiet"]) == 0
    out, err = capsys.readouterr()
    assert seen == [1, 2]
    assert re.search(r"1 kernels? ready in [\d.]+\s(µs|ms|s)\ncached in ", out)
    assert err == ""


def test_warmup_names_a_kernel_that_fails_and_compiles_the_others(registry, capsys):
    def fail(*args):
        raise TypeError("cannot unify\n   this and that")

    seen = []
    registry(_FakeKernel("bad", fail), _FakeKernel("good", lambda *args: seen.append(args)))
    assert main(["warmup"]) == 1
    out, err = capsys.readouterr()
    assert "failed: bad: TypeError: cannot unify this and that\n" in out
    assert "1 of 2 kernels ready" in out
    assert len(seen) == 2
    assert "compiling" in err


def test_warmup_of_a_real_kernel(registry, capsys):
    registry(next(item for item in kernels.load_all().values() if "numba" in item.versions))
    assert main(["warmup", "-q"]) == 0


# --- the tour: its table ------------------------------------------------------------------------------


def test_table_has_the_figures(stops, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "110")
    stops(shrinking=lambda: STOP)
    assert main(["tour", "--no-html"]) == 0
    out = capsys.readouterr().out
    for figure in ("1797 × 64", "3 % off", "420 µs", "13.1 ms", "3.45 %", "3.21 %"):
        assert figure in out


@pytest.mark.parametrize("columns", [30, 60, 100, 110, 120, 300])
def test_table_keeps_to_the_terminal(columns, stops, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    stops(shrinking=lambda: replace(STOP, data="the handwritten digits of scikit-learn " * 4), bad=_broken)
    main(["tour", "--no-html"])
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= min(columns, 120)
    assert out.split().count("handwritten") == 4


def test_stop_that_fails_does_not_hold_up_the_others(stops, take, capsys):
    stops(bad=_broken, shrinking=lambda: STOP)
    code, out, page = take()
    assert code == 1
    assert "failed: RuntimeError: no <data> here" in out
    assert "420 µs" in out
    assert "RuntimeError: no &lt;data&gt; here" in page
    assert "420\xa0µs" in page


@pytest.mark.parametrize("kind", [list, tuple])
def test_wing_may_have_several_stops(kind, stops, take, capsys):
    second = replace(STOP, capability="Stretching", bytes_before=0, bytes_after=0)
    stops(shrinking=lambda: kind([STOP, second]), other=lambda: replace(STOP, capability="Turning"))
    code, out, page = take()
    assert code == 0
    assert "Stretching" in out
    assert re.findall(r'<article id="(.+?)">', page) == ["shrinking", "shrinking-2", "other"]
    assert re.findall(r'<a href="#(.+?)">', page) == ["shrinking", "shrinking-2", "other"]
    assert page.count("<h3>Size</h3>") == 2  # the second stop is not about size


def test_second_stop_whose_picture_fails_is_named(stops, take):
    pytest.importorskip("matplotlib")

    def scrawl(figure):
        raise ZeroDivisionError("no ink")

    stops(shrinking=lambda: (STOP, replace(STOP, picture=scrawl)))
    code, out, page = take()
    assert code == 1
    assert "The picture of shrinking-2 failed: ZeroDivisionError: no ink" in out
    assert page.count("<img") == 1


@pytest.mark.parametrize("verbose", [True, False])
def test_traceback_is_shown_on_demand(verbose, stops, capsys):
    stops(bad=_broken)
    assert main(["tour", "--no-html", *["--verbose"] * verbose]) == 1
    assert ("Traceback" in capsys.readouterr().err) is verbose


def test_stops_are_found_by_their_name(tmp_path, monkeypatch):
    for wing in ("aisle", "nave", "_vault"):
        (tmp_path / "church" / wing).mkdir(parents=True)
        (tmp_path / "church" / wing / "__init__.py").touch()
    (tmp_path / "church" / "__init__.py").touch()
    (tmp_path / "church" / "nave" / "_tour.py").write_text("def stop(): return 'the nave'")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(tour, "_ROOT", "church")
    assert {wing: stop() for wing, stop in tour.find_stops().items()} == {"nave": "the nave"}


# --- the tour: its page -------------------------------------------------------------------------------


def test_page_is_complete_and_loads_nothing(stops, take, tmp_path):
    stops(shrinking=lambda: STOP)
    code, out, page = take()
    assert code == 0
    assert str(tmp_path / "page.html") in out
    assert not re.search(r"https?://|<script|<link|@import|url\(", page)
    assert page.count('src="data:image/') == page.count("src=") == 1
    for part in (
        "<html lang=",
        'name="viewport"',
        "prefers-color-scheme",
        "31× faster",
        "7.0× smaller",
        __version__,
    ):
        assert part in page
    assert os.listdir(tmp_path) == ["page.html"]


def test_text_is_escaped(stops, take):
    stops(shrinking=lambda: STOP)
    page = take()[2]
    for text in ("<tall>", "A & loses", "1 < 2", "<rising>"):
        assert text not in page
    for text in ("&lt;tall&gt;", "A &amp; loses", "1 &lt; 2", "&lt;rising&gt;"):
        assert text in page


def test_page_says_nothing_of_the_machine_but_its_kind(stops, take):
    stops(shrinking=lambda: STOP)
    page = take()[2]
    assert os.getcwd() not in page
    assert os.uname().nodename not in page if hasattr(os, "uname") and len(os.uname().nodename) > 3 else True


def test_without_matplotlib_the_numbers_remain(stops, take, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    stops(shrinking=lambda: STOP)
    code, _, page = take()
    assert code == 0
    assert "linalg_ml[plot]" in page
    assert "<img" not in page
    assert "31× faster" in page


def test_picture_that_fails_leaves_the_numbers(stops, take):
    pytest.importorskip("matplotlib")

    def scrawl(figure):
        raise ZeroDivisionError("no ink")

    stops(shrinking=lambda: replace(STOP, picture=scrawl))
    code, out, page = take()
    assert code == 1
    assert "The picture of shrinking failed: ZeroDivisionError: no ink" in out
    assert "no ink" in page
    assert "31× faster" in page


def test_crowded_picture_is_drawn_in_pixels():
    pytest.importorskip("matplotlib")
    points = np.random.default_rng(0).normal(size=(2, 20_000))
    assert _pictures.draw(_draw).startswith("data:image/svg+xml;base64,")
    assert _pictures.draw(lambda figure: figure.subplots().plot(*points, ".")).startswith("data:image/png;base64,")


def test_old_page_is_replaced(stops, take, tmp_path):
    (tmp_path / "page.html").write_text("old")
    stops(shrinking=lambda: STOP)
    assert "old" not in take()[2][:10]


@pytest.mark.parametrize("where", ["missing/page.html", "file/page.html", "folder"])
def test_path_that_cannot_be_written_is_refused_before_the_work(where, stops, tmp_path, capsys):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    stops(never=lambda: pytest.fail("the tour began"))
    assert main(["tour", "-o", str(tmp_path / where)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert str(tmp_path / where) in err
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


def test_failed_write_keeps_the_old_page(tmp_path):
    path = tmp_path / "page.html"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError):
        tour._replace(path, "new \ud800")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["page.html"]


# --- numbers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "value", "text"),
    [
        (_text.duration, 0.0, "0.00 µs"),
        (_text.duration, 9.999e-4, "1.00 ms"),
        (_text.duration, 0.9994, "999 ms"),
        (_text.duration, 3726.0, "3730 s"),
        (_text.size, 0, "0 B"),
        (_text.size, 1000, "1.00 kB"),
        (_text.size, 999_999, "1.00 MB"),
        (_text.size, 5 * 10**15, "5000 TB"),
        (_text.error, 1e-4, "0.0100 %"),
        (_text.error, 9.99e-5, "9.99e-05"),
        (_text.error, 1.0, "100 %"),
        (_text.error, 12345.0, "1.23e+04"),
        (_text.error, float("nan"), "nan"),
        (_text.error, float("inf"), "inf"),
        (_text.ratio, 9.96, "10×"),
        (_text.ratio, 0.93, "0.93×"),
    ],
)
def test_numbers(function, value, text):
    assert function(value).replace("\xa0", " ") == text


@pytest.mark.parametrize(
    "change", [{"true_error": 0.0}, {"claimed_error": float("nan")}, {"seconds": 0.0, "bytes_after": 0}]
)
def test_page_bears_odd_numbers(change, stops, take):
    stops(shrinking=lambda: replace(STOP, **change))
    assert take()[0] == 0
