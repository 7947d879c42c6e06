"""Compress the weights of a model: each matrix becomes a product of smaller ones, with its error.

A method of compression is a class in a module of its own, named in `_METHODS` and loaded when it is asked for.
"""

import argparse
import errno
import json
import math
import os
import re
import shutil
from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from time import perf_counter
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, Protocol, cast
from uuid import uuid4

from ._text import duration, error, glued, size, table

if TYPE_CHECKING:
    import numpy as np

    from ..monarch._safetensors import Model, Tensor

NAME = "compress"

_METHODS = {"monarch": ("_compress_monarch", "Monarch")}
_HEADER = ("tensor", "shape", "parameters", "after", "relative error", "time")
_LONGEST = -2.2250738585072014e-308  # no number is longer as text: it keeps the place of an error not known yet
_PIECE = 2**24  # bytes written at a time, so that an interrupt is heard


class Compressed(NamedTuple):
    """A matrix in parts: arrays as they are stored, by what their names end in; ‖A - M‖_F of these, and ‖A‖_F."""

    parts: "dict[str, np.ndarray]"
    error: float
    norm: float


class Method(Protocol):
    """A way to compress floating-point matrices, of whose parts the sizes are known beforehand."""

    key: str  # of the entry in the file's metadata that says, by name, what was compressed and how

    def __init__(self, nblocks: int, rank: int | None) -> None: ...

    def obstacle(self, shape: tuple[int, ...]) -> str | None:
        """Say why a matrix of this shape is left alone, None if it is not."""

    def parts(self, shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the parts, by what their names end in."""

    def entry(self, shape: tuple[int, ...]) -> dict[str, Any]:
        """Return what the metadata say of a matrix, its relative error aside."""

    def compress(self, stored: "np.ndarray", dtype: str) -> Compressed:
        """Compress a matrix, given as it is stored (bfloat16 as its bits); the parts are of the same kind."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take the files, the method, and what it needs."""
    parser.add_argument("model", metavar="MODEL.safetensors", help="the model")
    parser.add_argument(
        "--method", choices=sorted(_METHODS), default="monarch", help="kind of product (default: %(default)s)"
    )
    parser.add_argument(
        "--nblocks", type=int, default=4, metavar="N", help="blocks of each factor (default: %(default)s)"
    )
    parser.add_argument(
        "--rank", type=int, metavar="R", help="rank of the slices (default: half the parameters of a square matrix)"
    )
    parser.add_argument(
        "--match", default="", metavar="REGEX", help="compress tensors in whose name this is found (default: all)"
    )
    parser.add_argument(
        "-o", "--output", required=True, metavar="OUT.safetensors", help="the file to write; none is ever replaced"
    )


def run(args: argparse.Namespace) -> int:
    """Compress what can be, copy the rest, print a table."""
    from ..monarch._safetensors import Model

    method = _method(args)
    pattern = _compiled(args.match)
    _refuse_existing(args.output)
    model = Model(args.model)
    plan = _plan(model, method, pattern)
    rows = _write(model, plan, method, args.output)
    print(_table(plan, rows))
    print(f"\n{args.output}: {size(os.path.getsize(args.output))}, was {size(os.path.getsize(args.model))}")
    return 0


def _method(args: argparse.Namespace) -> Method:
    module, name = _METHODS[args.method]
    return getattr(import_module(f".{module}", __package__), name)(args.nblocks, args.rank)


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as problem:
        raise ValueError(f"--match {pattern!r} is no regular expression: {problem}") from None


# --- what is done -------------------------------------------------------------------------------------


class _Step(NamedTuple):
    """One tensor of the model, and why it is copied, if it is."""

    tensor: "Tensor"
    obstacle: str | None


def _plan(model: "Model", method: Method, pattern: re.Pattern[str]) -> list[_Step]:
    plan = [_Step(tensor, _obstacle(tensor, method, pattern)) for tensor in model.tensors.values()]
    if all(step.obstacle for step in plan):
        why = _reasons(plan) or "it holds no tensors"
        raise ValueError(f"nothing to compress in {model.path!r}: {why}")
    return plan


def _obstacle(tensor: "Tensor", method: Method, pattern: re.Pattern[str]) -> str | None:
    from ..monarch._safetensors import FLOATS

    if not pattern.search(tensor.name):
        return "--match is not in the name"
    if len(tensor.shape) != 2 or tensor.dtype not in FLOATS:
        return "not a floating-point matrix"
    return method.obstacle(tensor.shape)


def _reasons(plan: Sequence[_Step]) -> str:
    """Count the tensors that are copied, by reason."""
    counts = Counter(step.obstacle for step in plan if step.obstacle)
    return "; ".join(f"{count} × {reason}" for reason, count in counts.most_common())


def _outputs(plan: Sequence[_Step], method: Method) -> "list[Tensor]":
    """Lay out the new file in the order of the old one, so that what was aligned remains so."""
    from ..monarch._safetensors import laid_out

    items: list[tuple[str, str, tuple[int, ...]]] = []
    for tensor, obstacle in plan:
        shapes = {"": tensor.shape} if obstacle else method.parts(tensor.shape)
        items += [(tensor.name + end, tensor.dtype, shape) for end, shape in shapes.items()]
    twice = [name for name, count in Counter(name for name, *_ in items).items() if count > 1]
    if twice:
        raise ValueError(f"the model has a tensor {twice[0]!r} already, a name that a part of another would have")
    return laid_out(items)


# --- doing it -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Row:
    """What the table says of one tensor."""

    tensor: "Tensor"
    after: int  # parameters
    seconds: float
    error: float | None = None  # ‖A - M‖_F, if it was compressed
    norm: float = 0.0


def _relative(error: float, norm: float) -> float:
    return error / norm if norm else 0.0


def _write(model: "Model", plan: Sequence[_Step], method: Method, path: str) -> list[_Row]:
    """Write the new file tensor by tensor; its header is reserved first and filled in at the end."""
    from .._core.progress import progress
    from ..monarch._safetensors import encode_header

    outputs = _outputs(plan, method)
    old = model.entries(method.key)
    new = {
        tensor.name: {**method.entry(tensor.shape), "relative_error": _LONGEST}
        for tensor, obstacle in plan
        if not obstacle
    }
    rows = []
    with _new_file(path) as file:
        reserved = encode_header(outputs, _metadata(model, method.key, {**old, **new}))
        file.write(reserved)
        bar = cast("Generator[_Step]", progress(plan, "compressing", verbose=True))
        with closing(bar):  # at once, also when a step fails: what is said then has a line of its own
            for step in bar:
                row = _written(model, step, method, file)
                rows.append(row)
                if row.error is not None:
                    new[step.tensor.name]["relative_error"] = _relative(row.error, row.norm)
        file.seek(0)
        file.write(encode_header(outputs, _metadata(model, method.key, {**old, **new}), length=len(reserved)))
    return rows


def _metadata(model: "Model", key: str, entries: Mapping[str, Any]) -> dict[str, str]:
    return {**model.metadata, key: json.dumps(entries, separators=(",", ":"))}


def _written(model: "Model", step: _Step, method: Method, file: BinaryIO) -> _Row:
    """Compress and write one tensor, or copy it."""
    start = perf_counter()
    tensor = step.tensor
    if step.obstacle:
        _put(file, model.raw(tensor))
        return _Row(tensor, tensor.size, perf_counter() - start)
    try:
        compressed = method.compress(model.stored(tensor), tensor.dtype)
        if not math.isfinite(math.hypot(compressed.error, compressed.norm)):
            raise ValueError(f"its numbers, or those of its parts, are too large for {tensor.dtype}")
    except ValueError as problem:
        raise ValueError(f"tensor {tensor.name!r}: {problem}") from problem
    for part in compressed.parts.values():
        _put(file, part)
    after = sum(part.size for part in compressed.parts.values())
    return _Row(tensor, after, perf_counter() - start, compressed.error, compressed.norm)


def _put(file: BinaryIO, array: "np.ndarray") -> None:
    """Write the bytes of an array in C order."""
    flat = array.reshape(-1).view("u1")
    for start in range(0, flat.size, _PIECE):
        file.write(flat[start : start + _PIECE].data)


# --- a file that appears whole or not at all ----------------------------------------------------------


def _refuse_existing(path: str) -> None:
    if not path:
        raise ValueError("--output must be the name of a file")
    if os.path.lexists(path):  # a link to nowhere, too, is somebody's
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)


@contextmanager
def _new_file(path: str) -> Iterator[BinaryIO]:
    """Write to a file beside `path` that takes its name when it is complete; on failure nothing remains."""
    folder = os.path.dirname(os.path.abspath(path))
    draft = os.path.join(folder, f".{uuid4().hex}.part")  # not of tempfile, which lets nobody else read it
    try:
        with open(draft, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        _publish(draft, path)
    except OSError as problem:  # the draft is nobody's business, and a full disk has no name at all
        if problem.filename in (None, draft):
            raise OSError(problem.errno, problem.strerror, path) from problem
        raise
    finally:
        with suppress(FileNotFoundError, NotADirectoryError):
            os.unlink(draft)


def _publish(draft: str, path: str) -> None:
    """Give a file its name, which nothing may have."""
    try:
        os.link(draft, path)
    except FileExistsError:
        raise
    except (OSError, AttributeError, NotImplementedError):  # not every file system has links
        _publish_without_links(draft, path)


def _publish_without_links(draft: str, path: str) -> None:
    """Claim the name with an empty file, which fails if there is one, then replace that."""
    with open(path, "xb"):
        pass
    try:
        os.replace(draft, path)
    except BaseException:
        os.unlink(path)
        raise


# --- what is said -------------------------------------------------------------------------------------


def _table(plan: Sequence[_Step], rows: Sequence[_Row]) -> str:
    """Lay out a row for each compressed tensor, one for all others, and the totals."""
    columns = shutil.get_terminal_size(fallback=(110, 24)).columns
    compressed = [row for row in rows if row.error is not None]
    copied = [row for row in rows if row.error is None]
    cells = [_cells(_printable(row.tensor.name), [row], " × ".join(map(str, row.tensor.shape))) for row in compressed]
    if copied:
        cells.append(_cells(f"{len(copied)}\xa0copied", copied))
    laid = table(_HEADER, [*cells, _cells("total", rows)], min(columns, 120))
    return f"{laid}\n\ncopied: {_reasons(plan)}" if copied else laid


def _cells(name: str, rows: Sequence[_Row], shape: str = "") -> tuple[str, ...]:
    """Sum up rows; their error is that of all the matrices in them that were compressed, as one."""
    errors = [row.error for row in rows if row.error is not None]
    relative_error = _relative(math.hypot(*errors), math.hypot(*(row.norm for row in rows)))
    return (
        name,
        glued(shape),
        f"{sum(row.tensor.size for row in rows):,}",
        f"{sum(row.after for row in rows):,}",
        error(relative_error) if errors else "",
        duration(sum(row.seconds for row in rows)),
    )


def _printable(name: str) -> str:
    """Keep what a file calls its tensors from steering the terminal."""
    return "".join(character if character.isprintable() else "\ufffd" for character in name)
