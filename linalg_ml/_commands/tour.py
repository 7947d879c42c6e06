"""Run every capability on real data: one table, and a page with pictures.

A wing brings its stops in ``linalg_ml/<wing>/_tour.py``, found by that name.
"""

import argparse
import os
import shutil
import sys
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module, resources
from pathlib import Path
from typing import TYPE_CHECKING

from ._text import duration, error, glued, reason, table

if TYPE_CHECKING:
    from .._core.tour import TourStop
    from ._page import Visit

    Stops = TourStop | Sequence[TourStop]

NAME = "tour"

_ROOT = __package__.partition(".")[0]
_HEADER = ("capability", "data", "size", "quality", "our time", "usual tool", "error we gave", "true error")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take where the page goes, and how much is said."""
    page = parser.add_mutually_exclusive_group()
    page.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("linalg_ml_tour.html"),
        metavar="PATH",
        help="where the page is written (default: %(default)s)",
    )
    page.add_argument("--no-html", dest="html", action="store_false", help="print the table, write no page")
    parser.add_argument("-v", "--verbose", action="store_true", help="show the traceback of what fails")


def run(args: argparse.Namespace) -> int:
    """Visit all stops, print the table, write the page; 1 if a stop failed."""
    from .._core.progress import progress
    from ._pictures import can_draw

    if args.html:
        _refuse_unwritable(args.output)  # now, and not after a minute of work
    draw = args.html and can_draw()
    stops = find_stops()
    wings = progress(stops.items(), "tour", total=len(stops), verbose=True)
    visits = [visit for wing, stop in wings for visit in _visits(wing, stop, draw)]
    print(_table(visits))
    _explain(visits, args.verbose)
    if args.html:
        _write(visits, args.output, draw)
    return int(any(visit.problem for visit in visits))


# --- the stops ----------------------------------------------------------------------------------------


def find_stops() -> dict[str, Callable[[], "Stops"]]:
    """List the wings that have stops; nothing of theirs is imported before it is visited."""
    wings = (folder for folder in resources.files(_ROOT).iterdir() if folder.joinpath("_tour.py").is_file())
    return {wing: partial(_stop, wing) for wing in sorted(folder.name for folder in wings)}


def _stop(wing: str) -> "Stops":
    return import_module(f"{_ROOT}.{wing}._tour").stop()


def _visits(wing: str, stop: Callable[[], "Stops"], draw: bool) -> list["Visit"]:
    """Run the stops of one wing and draw them; what is raised is a result, so that the other wings still run."""
    from ._page import Visit

    try:
        found = stop()
    except Exception as problem:
        return [Visit(wing, None, problem=problem)]
    results = found if isinstance(found, (list, tuple)) else [found]
    return [_drawn(wing if i == 1 else f"{wing}-{i}", result, draw) for i, result in enumerate(results, start=1)]


def _drawn(name: str, stop: "TourStop", draw: bool) -> "Visit":
    from . import _pictures
    from ._page import Visit

    if not draw or stop.picture is None:
        return Visit(name, stop)
    try:
        return Visit(name, stop, _pictures.draw(stop.picture))
    except Exception as problem:
        return Visit(name, stop, problem=problem)


# --- what is said about them --------------------------------------------------------------------------


def _table(visits: Sequence["Visit"]) -> str:
    columns = shutil.get_terminal_size(fallback=(110, 24)).columns
    return table(_HEADER, [_row(visit) for visit in visits], min(columns, 120))


def _row(visit: "Visit") -> tuple[str, ...]:
    stop = visit.stop
    if stop is None:
        assert visit.problem is not None
        return visit.name, f"failed: {reason(visit.problem)}"
    return (
        stop.capability,
        glued(stop.data),
        glued(stop.size),
        glued(stop.quality),
        duration(stop.seconds),
        f"{stop.usual_tool}: {duration(stop.usual_seconds)}",
        error(stop.claimed_error),
        error(stop.true_error),
    )


def _explain(visits: Sequence["Visit"], verbose: bool) -> None:
    """Say what the table does not: pictures that failed, and tracebacks if asked for."""
    for visit in visits:
        if visit.problem is None:
            continue
        if visit.stop is not None:
            print(f"\nThe picture of {visit.name} failed: {reason(visit.problem)}")
        if verbose:
            traceback.print_exception(visit.problem, file=sys.stderr)


# --- the page -----------------------------------------------------------------------------------------


def _refuse_unwritable(path: Path) -> None:
    """Raise if no page can be put at `path`; found out by trying, which leaves nothing behind."""
    if path.exists() and not path.is_file():
        raise ValueError(f"{path} is not a file")  # a folder, or a device that root could replace
    try:
        _part(path).touch()
        _part(path).unlink()
    except OSError as problem:
        raise OSError(problem.errno, problem.strerror, str(path)) from None


def _write(visits: Sequence["Visit"], path: Path, draw: bool) -> None:
    from ._page import page

    _replace(path, page(visits, pictures_missing=not draw))
    print(f"\nThe page with pictures: {path.resolve()}" if draw else f"\nThe page: {path.resolve()}")


def _replace(path: Path, text: str) -> None:
    """Write in one step: a reader sees the old page or the new one, and a failure leaves the old one."""
    part = _part(path)
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _part(path: Path) -> Path:
    """Name a file beside the page; one of `tempfile` would be readable by nobody else."""
    return path.with_name(f".{path.name}.{os.getpid()}.part")
