"""Merging two streams: settings, shifts and scales first, then what each method knows."""

from typing import TYPE_CHECKING

import numpy as np

from ._merge import converted, merge_heaps, merge_subspaces, moved
from ._rows import library_of

if TYPE_CHECKING:
    from ._stream import TopEigenvectorStream


def merge(ours: "TopEigenvectorStream", theirs: "TopEigenvectorStream") -> None:
    """Put the other stream's history into ours."""
    _check(ours, theirs)
    if not theirs.n_rows:
        return
    other = theirs.copy()
    other._release()
    if not ours.n_rows:
        ours.__dict__.update(other.__dict__)
        return
    ours._release()
    _same_dtype(ours, other)
    _same_scale(ours, other)
    _same_shift(ours, other)
    if ours._plan.method == "subspace":  # type: ignore[union-attr]
        _merge_subspace_streams(ours, other)
    else:
        for stream in (ours, other):
            if stream._intake.filled:
                stream._engine.add(stream._intake.flushed())
        ours._engine.merge(other._engine)
    if ours._beside is not None and other._beside is not None:
        for stream in (ours, other):
            if stream._beside_intake.filled:
                stream._beside.add(stream._beside_intake.flushed())  # type: ignore[union-attr]
        ours._beside.merge(other._beside)
    ours._order.merge(other._order)
    ours._total += other._total
    ours.n_rows += other.n_rows
    ours._n_pushed = ours.n_rows


def _check(ours: "TopEigenvectorStream", theirs: "TopEigenvectorStream") -> None:
    from ._stream import TopEigenvectorStream

    if not isinstance(theirs, TopEigenvectorStream):
        raise TypeError(f"other must be a TopEigenvectorStream, got {type(theirs).__name__}")
    if ours._settings != theirs._settings:
        got = f"{ours._settings} and {theirs._settings}"
        raise ValueError(f"only streams of the same settings can be merged, got {got}")
    if None not in (ours.n_features, theirs.n_features) and ours.n_features != theirs.n_features:
        raise ValueError(f"only streams of one width can be merged, got {ours.n_features} and {theirs.n_features}")
    if ours.n_rows and theirs.n_rows:
        kinds = [library_of(stream._empty, stream._sparse) for stream in (ours, theirs)]
        if kinds[0] != kinds[1]:
            raise ValueError(f"only streams of rows of one kind can be merged, got {kinds[0]} and {kinds[1]}")
    method = ours._settings.method
    if method in ("random-order", "oja"):
        raise ValueError(f"streams of method {method!r} cannot be merged: their history is no sum")
    if ours._settings.forget < 1:
        raise ValueError("streams that forget cannot be merged: their rows have no common age")


def _same_dtype(ours: "TopEigenvectorStream", other: "TopEigenvectorStream") -> None:
    """Bring rows that the other stream keeps to our dtype: kernels take rows of one kind."""
    for intake in (other._intake, other._beside_intake):
        intake.heavy = [converted(row, ours._dtype) for row in intake.heavy]
        intake.waiting = [converted(block, ours._dtype) for block in intake.waiting]
        intake.heavy_energies = np.array([row.energies[0] for row in intake.heavy])
    other._dtype = ours._dtype


def _same_scale(ours: "TopEigenvectorStream", other: "TopEigenvectorStream") -> None:
    """Bring both to the larger scale."""
    a, b = ours._exponent, other._exponent
    if a is None or b is None:  # one of them has seen zeros alone
        ours._exponent = other._exponent = a if b is None else b
        return
    for stream, own in ((ours, a), (other, b)):
        stream._raise_exponent(max(a, b) - own)


def _same_shift(ours: "TopEigenvectorStream", other: "TopEigenvectorStream") -> None:
    """Express the other stream about our shift."""
    if ours._shift is None:
        return
    step = other._shift - ours._shift
    for intake in (other._intake, other._beside_intake):
        intake.heavy = [moved(row, step) for row in intake.heavy]
        intake.waiting = [moved(block, step) for block in intake.waiting]
        if intake.heavy:
            intake.heavy_energies = np.array([row.energies[0] for row in intake.heavy])
    for engine in (other._engine, other._beside):
        if engine is not None:
            engine.move(step)
    other._shift = ours._shift


def _merge_subspace_streams(ours: "TopEigenvectorStream", other: "TopEigenvectorStream") -> None:
    for stream in (ours, other):
        if stream._intake.filled:
            stream._engine.add(stream._intake.flushed())
    if ours._engine.V is None:
        ours._engine = other._engine
    elif other._engine.V is not None:
        merge_subspaces(ours._engine, other._engine)
    merge_heaps(ours._intake, other._intake, ours.n_rows, ours._engine.add)
