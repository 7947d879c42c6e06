"""CPU versions of the sketching kernels.

As plain loops LLVM does not vectorise a radix-8 or radix-16 butterfly (it cannot prove that so many in-place
streams are disjoint), which costs a factor of three to four. Hence the intrinsic below: it loads the rows of a
butterfly as vectors, adds and subtracts in registers, and stores, whatever the streams alias.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .._core.jit import jit
from .._core.threads import launch

_CACHED = 2**16  # elements of a unit: 512 KB of float64, a share of the second-level cache
_BITS = 10  # of a row number that one pass over memory transforms


@intrinsic
def _butterfly(typing_context, bits, vector, src, src_at, src_step, dst, dst_at, dst_step, scale):
    """Transform 2**bits rows of one vector (64 bytes; of one element if not `vector`): H rows * scale.

    Row k is read at src[src_at + k * src_step] and written at dst[dst_at + k * dst_step]. All loads come before
    all stores, so src and dst may be one array. Alignment is asked of elements alone. LLVM splits the vectors on
    machines whose registers are narrower. `bits` and `vector` are literals.
    """
    if not (isinstance(bits, types.IntegerLiteral) and isinstance(vector, types.IntegerLiteral)):
        return None
    signature = types.void(bits, vector, src, src_at, src_step, dst, dst_at, dst_step, scale)
    n_rows, size = 2**bits.literal_value, scale.bitwidth // 8
    n_lanes = 64 // size if vector.literal_value else 1

    def generate(context, builder, signature, args):
        lanes = ir.VectorType(context.get_value_type(scale), n_lanes)

        def addresses(array, at, step):
            data = context.make_array(src)(context, builder, array).data
            for k in range(n_rows):
                offset = builder.add(at, builder.mul(step, ir.Constant(step.type, k)))
                yield builder.bitcast(builder.gep(data, [offset]), lanes.as_pointer())

        rows = [builder.load(address, align=size) for address in addresses(*args[2:5])]
        for bit in (1 << level for level in range(bits.literal_value)):
            for k in range(n_rows):
                if not k & bit:
                    a, b = rows[k], rows[k | bit]
                    rows[k], rows[k | bit] = builder.fadd(a, b), builder.fsub(a, b)
        factor = ir.Constant(lanes, ir.Undefined)
        for lane in range(n_lanes):
            factor = builder.insert_element(factor, args[8], ir.Constant(ir.IntType(32), lane))
        for row, address in zip(rows, addresses(*args[5:8]), strict=True):
            builder.store(builder.fmul(row, factor), address, align=size)
        return context.get_dummy_value()

    return signature, generate


@jit
def _rows(bits, src, src_at, src_step, dst, dst_at, dst_step, width, scale):
    """Transform 2**bits rows of `width` elements each, `bits` from 1 to 4: vectors first, then what is left."""
    lanes = 64 // src.itemsize
    whole = width - width % lanes
    if bits == 4:
        for v in range(0, whole, lanes):
            _butterfly(4, 1, src, src_at + v, src_step, dst, dst_at + v, dst_step, scale)
        for v in range(whole, width):
            _butterfly(4, 0, src, src_at + v, src_step, dst, dst_at + v, dst_step, scale)
    elif bits == 3:
        for v in range(0, whole, lanes):
            _butterfly(3, 1, src, src_at + v, src_step, dst, dst_at + v, dst_step, scale)
        for v in range(whole, width):
            _butterfly(3, 0, src, src_at + v, src_step, dst, dst_at + v, dst_step, scale)
    elif bits == 2:
        for v in range(0, whole, lanes):
            _butterfly(2, 1, src, src_at + v, src_step, dst, dst_at + v, dst_step, scale)
        for v in range(whole, width):
            _butterfly(2, 0, src, src_at + v, src_step, dst, dst_at + v, dst_step, scale)
    else:
        for v in range(0, whole, lanes):
            _butterfly(1, 1, src, src_at + v, src_step, dst, dst_at + v, dst_step, scale)
        for v in range(whole, width):
            _butterfly(1, 0, src, src_at + v, src_step, dst, dst_at + v, dst_step, scale)


@jit
def _stage(bits, low, high, src, src_at, src_row, dst, dst_at, dst_row, width, scale):
    """Transform `bits` bits of a row number that has `low` bits below and `high` bits above them.

    Rows are src_row and dst_row elements apart and `width` long; where nothing lies between them, the rows of
    the low bits are one long row.
    """
    span = 1 << low
    if src_row == width and dst_row == width:
        for group in range(1 << high):
            row = group << (low + bits)
            _rows(bits, src, src_at + row * width, span * width, dst, dst_at + row * width, span * width,
                  span * width, scale)  # fmt: skip
    else:
        for group in range(1 << high):
            for row in range(group << (low + bits), (group << (low + bits)) + span):
                _rows(bits, src, src_at + row * src_row, span * src_row, dst, dst_at + row * dst_row,
                      span * dst_row, width, scale)  # fmt: skip


@jit
def _step(bits):
    """Return how many of `bits` bits the next stage takes, so that all stages take about as many, four at most."""
    stages = (bits + 3) // 4
    return (bits + stages - 1) // stages


@jit
def _unit(bits, src, src_at, src_row, buffer, dst, dst_at, dst_row, width, scale):
    """Transform 2**bits rows of `width` elements: from src through the buffer to dst.

    The first stage takes the highest bits and leaves blocks of rows that fit the first-level cache; each is
    then finished before the next is touched.
    """
    one = scale / scale
    left = bits - _step(bits)
    if left == 0:
        _stage(bits, 0, 0, src, src_at, src_row, dst, dst_at, dst_row, width, scale)
        return
    _stage(bits - left, left, 0, src, src_at, src_row, buffer, 0, width, width, one)
    for block in range(1 << (bits - left)):
        at, done, rest = (block << left) * width, 0, left
        while rest > _step(rest):
            step = _step(rest)
            rest -= step
            _stage(step, rest, done, buffer, at, width, buffer, at, width, width, one)
            done += step
        _stage(rest, 0, done, buffer, at, width, dst, dst_at + (block << left) * dst_row, dst_row, width, scale)


@jit
def _aligned(size, dtype_example):
    """Return scratch of `size` elements that starts at a cache line, so that no vector straddles two."""
    scratch = np.empty(size + 64, dtype_example.dtype)
    skip = (-scratch.ctypes.data // scratch.itemsize) % (64 // scratch.itemsize)
    return scratch[skip : skip + size]


@jit
def _pass(src, dst, bits, step, columns, scale, start, stop):
    """Transform `bits` bits of the row number over units start … stop - 1 of flat arrays.

    Rows of these bits are `step` elements apart; a unit is all of them times `columns` neighbouring elements.
    """
    buffer = _aligned(columns << bits, src)
    strips = (step + columns - 1) // columns
    for unit in range(start, stop):
        column = unit % strips * columns
        at = (unit // strips << bits) * step + column
        _unit(bits, src, at, step, buffer, dst, at, step, min(columns, step - column), scale)


def hadamard(x, scale, overwrite):
    """See the reference."""
    in_place = overwrite or not x.flags.c_contiguous
    y = np.ascontiguousarray(x) if in_place else np.empty_like(x, order="C")
    src, dst = (y if in_place else x).reshape(-1), y.reshape(-1)
    bits, post = x.shape[1].bit_length() - 1, x.shape[2]
    if bits == 0:
        np.multiply(x, x.dtype.type(scale), out=y)
        return y
    done = 0
    while done < bits:
        step = post << done
        room = max(_BITS, (_CACHED // step).bit_length() - 1)  # few columns leave room for more rows
        passes = 1 + -(-(bits - done - room) // _BITS) if bits - done > room else 1
        take = min(room, -(-(bits - done) // passes)) if done or passes == 1 else min(room, bits - _BITS * (passes - 1))
        columns = min(step, _CACHED >> take)
        units = x.shape[0] * (1 << (bits - done - take)) * -(-step // columns)
        factor = x.dtype.type(scale if done + take == bits else 1)
        launch(_pass, units, src, dst, take, step, columns, factor, cost=0.5 * x.size)
        src, done = dst, done + take
    return y
