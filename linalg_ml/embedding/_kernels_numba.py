"""CPU versions of the embedding kernels.

A row of the result is summed in vector registers, column tile after column tile, strictly in the order of its
neighbours: an intrinsic holds the sums, because LLVM would store them to memory after every neighbour (it cannot
prove that the rows it reads do not alias them). The gather waits for memory, so the rows of neighbours further on
are prefetched.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .._core.jit import jit
from .._core.threads import launch, n_threads

_AHEAD = 16  # neighbours from here to the one whose row is prefetched
_VECTOR = 512  # bits; LLVM splits vectors on machines whose registers are narrower
_LINE = 64  # bytes of a cache line


# --- emitting code ------------------------------------------------------------------------------------
#
# Memory is passed as addresses: arrays would be counted in and out of every call, which costs as much as a short row
# of neighbours. `kind` and `index` are numbers of the type of the data and of the indices. Literals select code.


def _spread(builder, scalar, lanes):
    """Emit a vector whose lanes all are `scalar`."""
    vector = ir.Constant(lanes, ir.Undefined)
    for lane in range(lanes.count):
        vector = builder.insert_element(vector, scalar, ir.Constant(ir.IntType(32), lane))
    return vector


def _vectors(builder, address, lanes, size, count):
    """Emit pointers to `count` neighbouring vectors of elements of `size` bytes."""
    for k in range(count):
        place = builder.add(address, ir.Constant(address.type, k * lanes.count * size))
        yield builder.inttoptr(place, lanes.as_pointer())


def _element(builder, address, number, kind):
    """Emit the load of an element of a flat array."""
    pointer = builder.inttoptr(address, kind.as_pointer())
    return builder.load(builder.gep(pointer, [number]))


def _lanes(columns, kind):
    """Return how many lanes the vectors have that hold `columns` columns, and how many vectors there are."""
    lanes = min(columns.literal_value, _VECTOR // kind.bitwidth)
    return lanes, columns.literal_value // lanes


def _prefetch(builder, address, size):
    byte, i32 = ir.IntType(8).as_pointer(), ir.IntType(32)
    kind = ir.FunctionType(ir.VoidType(), [byte, i32, i32, i32])
    function = builder.module.declare_intrinsic("llvm.prefetch", [byte], kind)
    for offset in range(0, size, _LINE):
        place = builder.inttoptr(builder.add(address, ir.Constant(address.type, offset)), byte)
        builder.call(function, [place, *(ir.Constant(i32, value) for value in (0, 3, 1))])  # read, keep, data


def _emit_sums(context, builder, args, lanes, columns, weighted, kind, index):
    """Emit the sums of `_gather`; return where they are, a vector each."""
    rows, step, indices, weights, first, last, limit = args[4:]
    size, n_lanes, (_, count) = kind.bitwidth // 8, lanes.count, _lanes(columns, kind)
    long, one = ir.IntType(64), ir.Constant(ir.IntType(64), 1)

    def row(j):
        place = _element(builder, indices, j, context.get_value_type(index))
        place = place if place.type == long else builder.sext(place, long)
        return builder.add(rows, builder.mul(place, step))

    sums = [cgutils.alloca_once(builder, lanes) for _ in range(count)]
    for total in sums:
        builder.store(ir.Constant(lanes, [0.0] * n_lanes), total)
    end = builder.sub(limit, one)
    with cgutils.for_range_slice(builder, first, last, one, long, inc=True) as (j, _):
        ahead = builder.add(j, ir.Constant(long, _AHEAD))
        place = row(builder.select(builder.icmp_signed("<", ahead, end), ahead, end))
        _prefetch(builder, place, count * n_lanes * size)
        if weighted.literal_value:
            weight = _spread(builder, _element(builder, weights, j, context.get_value_type(kind)), lanes)
        for total, address in zip(sums, _vectors(builder, row(j), lanes, size, count), strict=True):
            value = builder.load(address, align=size)
            if weighted.literal_value:
                value = builder.fmul(weight, value)
            builder.store(builder.fadd(builder.load(total), value), total)
    return sums


def _literal(*values):
    return all(isinstance(value, types.IntegerLiteral) for value in values)


@intrinsic
def _gather(typing_context, columns, weighted, kind, index, rows, step, indices, weights, first, last, limit, acc):
    """Store Σ weights[j] · (the row at rows + indices[j] · step), j = first … last - 1, to acc, `columns` columns.

    One chain of additions a column, in order. `limit` is the number of all indices: the rows of neighbours _AHEAD
    positions further are prefetched, across the end of the row.
    """
    if not _literal(columns, weighted):
        return None
    signature = types.void(columns, weighted, kind, index, *[types.int64] * 8)
    n_lanes, _ = _lanes(columns, kind)

    def generate(context, builder, signature, args):
        lanes, size = ir.VectorType(context.get_value_type(kind), n_lanes), kind.bitwidth // 8
        sums = _emit_sums(context, builder, args[:11], lanes, columns, weighted, kind, index)
        for total, address in zip(sums, _vectors(builder, args[11], lanes, size, len(sums)), strict=True):
            builder.store(builder.load(total), address, align=size)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def _narrow(typing_context, columns, weighted, kind, index, rows, step, indices, weights, first, last, limit, inverse,
            out, factor, total):  # fmt: skip
    """Put inverse · (the sum of `_gather`) to out and add factor times it to total, all in registers. 0: not wanted."""
    if not _literal(columns, weighted):
        return None
    long = types.int64
    signature = types.void(columns, weighted, kind, index, *[long] * 7, kind, long, kind, long)
    n_lanes, _ = _lanes(columns, kind)

    def generate(context, builder, signature, args):
        lanes, size = ir.VectorType(context.get_value_type(kind), n_lanes), kind.bitwidth // 8
        inverse, out, factor, total = args[11:]
        sums = _emit_sums(context, builder, args[:11], lanes, columns, weighted, kind, index)
        values = [builder.fmul(_spread(builder, inverse, lanes), builder.load(x)) for x in sums]
        with builder.if_then(cgutils.is_not_null(builder, out)):
            for value, address in zip(values, _vectors(builder, out, lanes, size, len(sums)), strict=True):
                builder.store(value, address, align=size)
        with builder.if_then(cgutils.is_not_null(builder, total)):
            for value, address in zip(values, _vectors(builder, total, lanes, size, len(sums)), strict=True):
                part = builder.fmul(_spread(builder, factor, lanes), value)
                builder.store(builder.fadd(builder.load(address, align=size), part), address, align=size)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def _squares(typing_context, kind, acc):
    """Return the sum of squares of 64 numbers in float64: eight lanes, added left to right."""
    signature = types.float64(kind, types.int64)

    def generate(context, builder, signature, args):
        real, double = context.get_value_type(kind), ir.DoubleType()
        lanes, wide, size = ir.VectorType(real, 8), ir.VectorType(double, 8), kind.bitwidth // 8
        total = None
        for address in _vectors(builder, args[1], lanes, size, 8):
            value = builder.load(address, align=size)
            value = value if real == double else builder.fpext(value, wide)
            square = builder.fmul(value, value)
            total = square if total is None else builder.fadd(total, square)
        result = builder.extract_element(total, ir.Constant(ir.IntType(32), 0))
        for lane in range(1, 8):
            result = builder.fadd(result, builder.extract_element(total, ir.Constant(ir.IntType(32), lane)))
        return result

    return signature, generate


_SET, _START, _ADD = 0, 1, 2


@intrinsic
def _scaled(typing_context, columns, mode, kind, src, factor, dst):
    """Write factor · src to dst, `columns` columns: as it is (_SET), added to 0 (_START: no -0) or to dst (_ADD)."""
    if not _literal(columns, mode):
        return None
    signature = types.void(columns, mode, kind, types.int64, kind, types.int64)
    n_lanes, count = _lanes(columns, kind)

    def generate(context, builder, signature, args):
        lanes, size = ir.VectorType(context.get_value_type(kind), n_lanes), kind.bitwidth // 8
        factors, zero = _spread(builder, args[4], lanes), ir.Constant(lanes, [0.0] * n_lanes)
        sources = _vectors(builder, args[3], lanes, size, count)
        for source, target in zip(sources, _vectors(builder, args[5], lanes, size, count), strict=True):
            value = builder.fmul(factors, builder.load(source, align=size))
            if mode.literal_value != _SET:
                value = builder.fadd(zero if mode.literal_value == _START else builder.load(target, align=size), value)
            builder.store(value, target, align=size)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def _load(typing_context, kind, address, number):
    """Return an element of a flat array."""
    signature = kind(kind, types.int64, types.int64)

    def generate(context, builder, signature, args):
        return _element(builder, args[1], args[2], context.get_value_type(kind))

    return signature, generate


# --- rows ---------------------------------------------------------------------------------------------


@jit
def _sum(weighted, kind, size, index, rows, step, indices, weights, first, last, limit, acc, width):
    """Fill acc with the sum of the rows of neighbours first … last - 1: the widest tile that fits, then narrower."""
    c = 0
    if weighted:
        while size == 4 and width - c >= 128:  # eight vectors
            _gather(128, 1, kind, index, rows + c * size, step, indices, weights, first, last, limit, acc + c * size)
            c += 128
        while width - c >= 64:
            _gather(64, 1, kind, index, rows + c * size, step, indices, weights, first, last, limit, acc + c * size)
            c += 64
        while width - c >= 16:
            _gather(16, 1, kind, index, rows + c * size, step, indices, weights, first, last, limit, acc + c * size)
            c += 16
        while width - c >= 8:
            _gather(8, 1, kind, index, rows + c * size, step, indices, weights, first, last, limit, acc + c * size)
            c += 8
        while width - c >= 1:
            _gather(1, 1, kind, index, rows + c * size, step, indices, weights, first, last, limit, acc + c * size)
            c += 1
    else:
        while size == 4 and width - c >= 128:
            _gather(128, 0, kind, index, rows + c * size, step, indices, weights, first, last, limit, acc + c * size)
            c += 128
        while width - c >= 64:
            _gather(64, 0, kind, index, rows + c * size, step, indices, weights, first, last, limit, acc + c * size)
            c += 64
        while width - c >= 16:
            _gather(16, 0, kind, index, rows + c * size, step, indices, weights, first, last, limit, acc + c * size)
            c += 16
        while width - c >= 8:
            _gather(8, 0, kind, index, rows + c * size, step, indices, weights, first, last, limit, acc + c * size)
            c += 8
        while width - c >= 1:
            _gather(1, 0, kind, index, rows + c * size, step, indices, weights, first, last, limit, acc + c * size)
            c += 1


@jit
def _scale_row(mode, kind, size, src, factor, dst, width):
    c = 0
    while width - c >= 64:
        if mode == _SET:
            _scaled(64, _SET, kind, src + c * size, factor, dst + c * size)
        elif mode == _START:
            _scaled(64, _START, kind, src + c * size, factor, dst + c * size)
        else:
            _scaled(64, _ADD, kind, src + c * size, factor, dst + c * size)
        c += 64
    while width - c >= 4:
        if mode == _SET:
            _scaled(4, _SET, kind, src + c * size, factor, dst + c * size)
        elif mode == _START:
            _scaled(4, _START, kind, src + c * size, factor, dst + c * size)
        else:
            _scaled(4, _ADD, kind, src + c * size, factor, dst + c * size)
        c += 4
    while width - c >= 1:
        if mode == _SET:
            _scaled(1, _SET, kind, src + c * size, factor, dst + c * size)
        elif mode == _START:
            _scaled(1, _START, kind, src + c * size, factor, dst + c * size)
        else:
            _scaled(1, _ADD, kind, src + c * size, factor, dst + c * size)
        c += 1


@jit
def _finish(kind, size, acc, width, u, inverse, source, step, alpha, factors, lead, fresh, out, out_step, total,
            total_step, squares):  # fmt: skip
    """Scale the sums of row u, put and add them where they are wanted; return their squares. Address 0: not wanted."""
    if not (total or squares):
        _scale_row(_SET, kind, size, acc, inverse, out + u * out_step, width)
        return 0.0
    _scale_row(_SET, kind, size, acc, inverse, acc, width)
    if out:
        _scale_row(_SET, kind, size, acc, kind, out + u * out_step, width)  # kind is 1
    s = 0.0
    if squares or (total and not factors):
        for c in range(0, width, 64):  # the scratch is zero beyond the width
            s += _squares(kind, acc + c * size)
    if total:
        factor = kind - kind
        if factors:
            factor = _load(kind, factors, u)
        elif s > 0:
            factor = type(kind)(alpha / np.sqrt(s))
        mode = _START if fresh else _ADD
        if lead:
            _scale_row(mode, kind, size, source + u * step, _load(kind, lead, u), total + u * total_step, width)
            mode = _ADD
        _scale_row(mode, kind, size, acc, factor, total + u * total_step, width)
    return s


@jit
def _scratch(width, kind):
    """Return zeros, in whole groups of columns, and where among them a cache line starts."""
    scratch = np.zeros(width + 128, np.array([kind]).dtype)
    return scratch, (-scratch.ctypes.data // scratch.itemsize) % (64 // scratch.itemsize)


@jit
def _propagate(edges, kind, index, rows, step, width, indptr, indices, weights, limit, inverse, run, alpha, factors,
               lead, fresh, out, out_step, total, total_step, squares, start, stop):  # fmt: skip
    """Do the rows of chunks start … stop - 1."""
    scratch, skip = _scratch(width, kind)
    size = scratch.itemsize
    acc, long_sum = scratch.ctypes.data + skip * size, np.empty(width)
    values = scratch[skip : skip + width]
    simple = width == 8 and size == 4 and (not total or factors) and not (lead or fresh or squares.size)
    for u in range(edges[start], edges[stop]):
        first, last = indptr[u], indptr[u + 1]
        if simple and last - first <= run:  # probes of the error: what else is done to a row takes as long as the sums
            factor = _load(kind, factors, u) if total else kind
            target = out + u * out_step if out else 0
            sums = total + u * total_step if total else 0
            if weights:
                _narrow(8, 1, kind, index, rows, step, indices, weights, first, last, limit, inverse[u], target,
                        factor, sums)  # fmt: skip
            else:
                _narrow(8, 0, kind, index, rows, step, indices, weights, first, last, limit, inverse[u], target,
                        factor, sums)  # fmt: skip
            continue
        _sum(
            weights != 0,
            kind,
            size,
            index,
            rows,
            step,
            indices,
            weights,
            first,
            min(last, first + run),
            limit,
            acc,
            width,
        )
        if last - first > run:
            long_sum[:] = values
            for at in range(first + run, last, run):
                _sum(
                    weights != 0,
                    kind,
                    size,
                    index,
                    rows,
                    step,
                    indices,
                    weights,
                    at,
                    min(last, at + run),
                    limit,
                    acc,
                    width,
                )
                long_sum += values
            values[:] = long_sum
        s = _finish(kind, size, acc, width, u, inverse[u], rows, step, alpha, factors, lead, fresh, out, out_step,
                    total, total_step, squares.size)  # fmt: skip
        if squares.size:
            squares[u] += s


@jit
def _propagate_sparse(edges, sizes, starts, packed, some, width, indptr, indices, weights, inverse, run, alpha,
                      factors, fresh, out, out_step, total, total_step, squares, start, stop):  # fmt: skip
    """As `_propagate`; `some` has a bit for every row of the projection, set where it is not empty."""
    kind = sizes.dtype.type(1)
    scratch, skip = _scratch(width, kind)
    size = scratch.itemsize
    acc, long_sum = scratch.ctypes.data + skip * size, np.empty(width)
    values = scratch[skip : skip + width]
    for u in range(edges[start], edges[stop]):
        first, last = indptr[u], indptr[u + 1]
        values[:] = 0
        long_sum[:] = 0
        for at in range(first, last, run):
            for e in range(at, min(last, at + run)):
                j = indices[e]
                if some[j >> 3] >> (j & 7) & 1:
                    value = sizes[j] * weights[e] if weights.size else sizes[j]
                    for k in range(starts[j], starts[j + 1]):
                        column = packed[k] >> 1
                        values[column] += -value if packed[k] & 1 else value
            if last - first > run:
                long_sum += values
                values[:] = 0
        if last - first > run:
            values[:] = long_sum
        s = _finish(kind, size, acc, width, u, inverse[u], acc, 0, alpha, factors, 0, fresh, out, out_step, total,
                    total_step, squares.size)  # fmt: skip
        if squares.size:
            squares[u] += s


@jit
def _asymmetry(edges, indptr, indices, weights, tags, sums, start, stop):
    """Fill in the sums of chunks start … stop - 1."""
    for chunk in range(start, stop):
        there, back = 0.0, 0.0
        for u in range(edges[chunk], edges[chunk + 1]):
            x, y = 0.0, 0.0
            for e in range(indptr[u], indptr[u + 1]):
                j = np.uint64(indices[e])
                weight = np.float64(weights[e]) if weights.size else 1.0
                x += weight * np.float64(tags[j, 0])
                y += weight * np.float64(tags[j, 1])
            there += np.float64(tags[u, 0]) * y
            back += np.float64(tags[u, 1]) * x
        sums[chunk, 0], sums[chunk, 1] = there, back


# --- launching ----------------------------------------------------------------------------------------


def _address(rows):
    """Return where rows start and how many bytes lie from one to the next; 0 for None."""
    if rows is None or rows.shape[0] == 0:  # NumPy gives arrays without rows other strides
        return 0, 0
    if rows.ndim == 1:
        return rows.ctypes.data, rows.itemsize
    if not rows.flags.aligned or (rows.shape[1] > 1 and rows.strides[1] != rows.itemsize):
        raise ValueError("rows must be contiguous")
    return rows.ctypes.data, rows.strides[0]


def _readable(rows):
    """Return rows whose memory can be addressed."""
    contiguous = rows.strides[1] == rows.itemsize or rows.shape[1] == 1
    return rows if contiguous and rows.flags.aligned else np.require(rows, requirements=["C", "A"])


def _contiguous(array):
    return None if array is None else np.require(array, requirements=["C", "A"])  # what dask sends is not aligned


def _chunks(indptr):
    """Return the edges of chunks of rows with about as many neighbours each; a row counts as four more."""
    m = indptr.shape[0] - 1
    count = min(m, 32 * n_threads())
    whole = int(indptr[m]) + 4 * m
    edges = np.empty(count + 1, np.int64)
    edges[0], edges[count] = 0, m
    for chunk in range(1, count):  # by bisection: no array as long as the rows
        low, high, wanted = int(edges[chunk - 1]), m, whole * chunk // count
        while low < high:
            middle = (low + high) // 2
            low, high = (middle + 1, high) if int(indptr[middle]) + 4 * middle < wanted else (low, middle)
        edges[chunk] = low
    return edges


def propagate(source, indptr, indices, weights, inverse, run, alpha, factors, lead, fresh, out, out_total, out_squares):
    width, m = source.shape[1], indptr.shape[0] - 1
    if m == 0 or width == 0:
        return out, out_total, out_squares
    source, indptr, indices, inverse = _readable(source), *map(_contiguous, (indptr, indices, inverse))
    weights, factors, lead = map(_contiguous, (weights, factors, lead))  # held here while their addresses are used
    squares = np.empty(0) if out_squares is None else out_squares
    launch(
        _propagate, (edges := _chunks(indptr)).size - 1, edges, source.dtype.type(1), indices.dtype.type(0),
        *_address(source), width, indptr, _address(indices)[0], _address(weights)[0], indices.size, inverse, run,
        0.0 if alpha is None else float(alpha), _address(factors)[0], _address(lead)[0], bool(fresh), *_address(out),
        *_address(out_total), squares, cost=0.15 * width * (indices.size + 3 * m),
    )  # fmt: skip
    return out, out_total, out_squares


def propagate_sparse(
    sizes, starts, packed, indptr, indices, weights, inverse, run, alpha, factors, fresh, width, out, out_total,
    out_squares,
):  # fmt: skip
    m = indptr.shape[0] - 1
    if m == 0 or width == 0:
        return out, out_total, out_squares
    some = np.packbits(np.diff(starts) > 0, bitorder="little")
    sizes, indptr, indices, inverse, factors = map(_contiguous, (sizes, indptr, indices, inverse, factors))
    squares = np.empty(0) if out_squares is None else out_squares
    weights = np.empty(0, sizes.dtype) if weights is None else _contiguous(weights)
    launch(
        _propagate_sparse, (edges := _chunks(indptr)).size - 1, edges, sizes, starts, packed, some, width, indptr,
        indices, weights, inverse, run, 0.0 if alpha is None else float(alpha), _address(factors)[0], bool(fresh),
        *_address(out), *_address(out_total), squares, cost=3.0 * indices.size + 0.5 * width * m,
    )  # fmt: skip
    return out, out_total, out_squares


def asymmetry(indptr, indices, weights, tags):
    indptr, indices, tags = map(_contiguous, (indptr, indices, tags))
    weights = np.empty(0, np.float32) if weights is None else _contiguous(weights)
    sums = np.zeros(((edges := _chunks(indptr)).size - 1, 2))
    launch(_asymmetry, len(sums), edges, indptr, indices, weights, tags, sums, cost=3.0 * indices.size)
    return tuple(sums.sum(axis=0))


# --- entries of the projection ------------------------------------------------------------------------


@jit
def _entries(words, scale, threshold, size, table, out, start, stop):
    for i in range(start, stop):
        factor = scale[i]
        if table.size:
            for c in range(words.shape[1]):
                word = words[i, c]
                value = table[word >> np.uint32(17)]
                out[i, c] = (-value if word & np.uint32(1) else value) * factor
        else:
            value = size * factor
            for c in range(words.shape[1]):
                word = words[i, c]
                signed = -value if word & np.uint32(1) else value
                out[i, c] = signed if (word >> np.uint32(1)) < threshold else 0.0


@jit
def _count(words, threshold, counts, start, stop):
    for i in range(start, stop):
        total = 0
        for c in range(words.shape[1]):
            total += (words[i, c] >> np.uint32(1)) < threshold
        counts[i] = total


@jit
def _fill(words, threshold, starts, packed, start, stop):
    for i in range(start, stop):
        at = starts[i]
        if starts[i + 1] == at:
            continue
        for c in range(words.shape[1]):
            word = words[i, c]
            if (word >> np.uint32(1)) < threshold:
                packed[at] = 2 * c + np.int64(word & np.uint32(1))
                at += 1


def entries(words, scale, threshold, size, table, out):
    launch(_entries, words.shape[0], np.ascontiguousarray(words), scale, np.uint32(threshold), float(size),
           np.empty(0) if table is None else table, out, cost=1.0 * words.size)  # fmt: skip
    return out


def nonzeros(words, threshold):
    words, threshold = np.ascontiguousarray(words), np.uint32(threshold)
    counts = np.empty(words.shape[0], np.int64)
    launch(_count, words.shape[0], words, threshold, counts, cost=0.2 * words.size)
    starts = np.concatenate([[0], np.cumsum(counts)])
    packed = np.empty(starts[-1], np.int64)
    launch(_fill, words.shape[0], words, threshold, starts, packed, cost=0.4 * words.size)
    return counts, packed
