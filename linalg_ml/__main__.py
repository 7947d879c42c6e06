"""The command line: ``linalg-ml <command>``, also ``python -m linalg_ml <command>``.

A command is a module of `linalg_ml._commands`, found by listing that package: its docstring's first line is
what ``--help`` says, `NAME` what one types. Names that start with an underscore are helpers.
"""

import argparse
import io
import os
import sys
from collections.abc import Iterator, Sequence
from importlib import import_module
from pkgutil import iter_modules
from typing import Protocol

from . import __version__, _commands

_PROGRAM = "linalg-ml"


class Command(Protocol):
    """What a module of `_commands` offers. It imports what is heavy inside `run`, so that help is instant."""

    NAME: str
    __doc__: str | None

    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...

    def run(self, args: argparse.Namespace) -> int: ...


def find_commands() -> Iterator[Command]:
    """Import every command of the package."""
    for module in iter_modules(_commands.__path__):
        if not module.name.startswith("_"):
            yield import_module(f"{_commands.__name__}.{module.name}")


def _parser() -> argparse.ArgumentParser:
    about = "Numerical linear algebra for machine learning, every answer with its error."
    parser = argparse.ArgumentParser(prog=_PROGRAM, description=about)
    parser.add_argument("--version", action="version", version=f"linalg_ml {__version__}")
    parser.set_defaults(run=None)
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command")
    for command in find_commands():
        summary = (command.__doc__ or "").partition("\n")[0]
        subparser = subparsers.add_parser(command.NAME, help=summary, description=summary)
        command.add_arguments(subparser)
        subparser.set_defaults(run=command.run)
    return parser


def _explanation(error: Exception) -> str:
    """Say in one line what went wrong, a file's name first as other programs do."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split()) or type(error).__name__


def _run(argv: Sequence[str] | None) -> int:
    parser = _parser()
    args = parser.parse_args(argv)
    if args.run is None:
        parser.print_help()
        return 0
    try:
        return args.run(args)
    except BrokenPipeError:
        raise
    except (ValueError, OSError) as error:  # the library's way to tell its user; anything else is our fault
        print(f"{_PROGRAM} {args.command}: error: {_explanation(error)}", file=sys.stderr)
        return 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 done in part, 2 refused, 130 interrupted."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a console that lacks × or ‖ shows ? and does not fail
    try:
        try:
            return _run(argv)
        finally:
            sys.stdout.flush()
    except KeyboardInterrupt:
        return 130  # what a shell says of a program that was stopped so
    except BrokenPipeError:  # the reader has left, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python complains when it exits
        return 1


if __name__ == "__main__":
    sys.exit(main())
