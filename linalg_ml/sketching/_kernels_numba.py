"""CPU versions of the sketching kernels.

As plain loops LLVM does not vectorise a radix-8 or radix-16 butterfly (it cannot prove that so many in-place
streams are disjoint), which costs a factor of three to four. Hence the intrinsic below: it loads the rows of a
butterfly as vectors, adds and subtracts in registers, and stores, whatever the streams alias.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.lib.stride_tricks import as_strided

from .._core.jit import jit, jit_reassociating
from .._core.llvm import spread
from .._core.threads import launch, n_threads

_CACHED = 2**16  # elements of a unit: 512 KB of float64, a share of the second-level cache
_SUMS = 2**19  # elements of sums that rows are added to at random: 4 MB of float64, a share of the last-level cache
_BITS = 10  # of a row number that one pass over memory transforms


def _lanes(src, vector):
    return 512 // src.dtype.bitwidth if vector.literal_value else 1


def _addresses(builder, data, lanes, count, at, step):
    """Emit the addresses data + at + k * step, k = 0 … count - 1, as pointers to vectors."""
    for k in range(count):
        place = builder.add(at, builder.mul(step, ir.Constant(step.type, k)))
        yield builder.bitcast(builder.gep(data, [place]), lanes.as_pointer())


def _transformed(builder, rows):
    """Emit the Walsh–Hadamard transform of a list of vectors."""
    rows, bit = list(rows), 1
    while bit < len(rows):
        for k in range(len(rows)):
            if not k & bit:
                a, b = rows[k], rows[k | bit]
                rows[k], rows[k | bit] = builder.fadd(a, b), builder.fsub(a, b)
        bit *= 2
    return rows


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
    n_lanes = _lanes(src, vector)

    def generate(context, builder, signature, args):
        lanes = ir.VectorType(context.get_value_type(scale), n_lanes)
        src_data, dst_data = (context.make_array(src)(context, builder, args[i]).data for i in (2, 5))
        size, n_rows = scale.bitwidth // 8, 2**bits.literal_value
        rows = [builder.load(at, align=size) for at in _addresses(builder, src_data, lanes, n_rows, *args[3:5])]
        factor = spread(builder, args[8], lanes.count)
        targets = _addresses(builder, dst_data, lanes, n_rows, *args[6:8])
        for row, address in zip(_transformed(builder, rows), targets, strict=True):
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
        at = (block << left) * width
        rest, done = left, 0
        while rest > _step(rest):
            step = _step(rest)
            rest -= step
            _stage(step, rest, done, buffer, at, width, buffer, at, width, width, one)
            done += step
        _stage(rest, 0, done, buffer, at, width, dst, dst_at + (block << left) * dst_row, dst_row, width, scale)


@jit
def _low_stages(bits, buffer, at, width):
    """Transform 2**bits rows in place, for rows that fit the first-level cache."""
    done = 0
    while done < bits:
        step = _step(bits - done)
        _stage(step, bits - done - step, done, buffer, at, width, buffer, at, width, width, buffer.dtype.type(1))
        done += step


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


def _plan(bits, post):
    """Split `bits` of a row number into passes over memory, low bits first: as few as possible, about equal.

    Where rows are short, more of them fit the cache, and the first pass takes more bits.
    """
    room = max(_BITS, (_CACHED // post).bit_length() - 1)
    if bits <= room:
        return [bits]
    passes = -(-bits // _BITS)
    first = min(room, bits - 1) if room > _BITS else -(-bits // passes)
    rest, n_rest = bits - first, -(-(bits - first) // _BITS)
    return [first, *(rest * (i + 1) // n_rest - rest * i // n_rest for i in range(n_rest))]


def hadamard(x, scale, overwrite):
    overwrite = overwrite and x.flags.writeable  # stores by address would not ask
    in_place = (x.flags.c_contiguous and overwrite) or not x.flags.c_contiguous
    y = np.ascontiguousarray(x) if in_place else np.empty_like(x)
    src, dst = (y if in_place else x).reshape(-1), y.reshape(-1)
    pre, n, post = x.shape
    if x.size == 0 or n == 1:
        return np.multiply(x, x.dtype.type(scale), out=y)
    done, last = 0, n.bit_length() - 1
    for bits in _plan(last, post):
        step = post << done
        columns = min(step, _CACHED >> bits)
        units = pre * (n >> (done + bits)) * -(-step // columns)
        done += bits
        factor = x.dtype.type(scale if done == last else 1)
        launch(_pass, units, src, dst, bits, step, columns, factor, cost=0.5 * x.size)
        src = dst
    return y


# --- rows added to rows -----------------------------------------------------------------------------------


@intrinsic
def _add_signed(typing_context, vectors, src, src_at, factor, dst, dst_at):
    """Add factor * src[src_at + …] to dst[dst_at + …], `vectors` (a literal) vectors of 64 bytes.

    As a plain loop LLVM checks at run time whether the rows overlap, which costs more than the additions.
    """
    if not isinstance(vectors, types.IntegerLiteral):
        return None
    signature = types.void(vectors, src, src_at, factor, dst, dst_at)

    def generate(context, builder, signature, args):
        lanes = ir.VectorType(context.get_value_type(factor), 512 // factor.bitwidth)
        src_data, dst_data = (
            context.make_array(array)(context, builder, args[i]).data for i, array in ((1, src), (4, dst))
        )
        size, step = factor.bitwidth // 8, ir.Constant(args[2].type, lanes.count)
        sources = _addresses(builder, src_data, lanes, vectors.literal_value, args[2], step)
        targets = list(_addresses(builder, dst_data, lanes, vectors.literal_value, args[5], step))
        factors = spread(builder, args[3], lanes.count)
        sums = []
        for source, target in zip(sources, targets, strict=True):
            signed = builder.fmul(factors, builder.load(source, align=size))
            sums.append(builder.fadd(builder.load(target, align=size), signed))
        for value, at in zip(sums, targets, strict=True):
            builder.store(value, at, align=size)
        return context.get_dummy_value()

    return signature, generate


@jit
def _add_row(src, at, factor, dst, place, width):
    """Add factor * src[at : at + width] to dst[place : place + width]."""
    lanes = 64 // src.itemsize
    fours, ones = width - width % (4 * lanes), width - width % lanes
    for v in range(0, fours, 4 * lanes):
        _add_signed(4, src, at + v, factor, dst, place + v)
    for v in range(fours, ones, lanes):
        _add_signed(1, src, at + v, factor, dst, place + v)
    for v in range(ones, width):
        dst[place + v] += factor * src[at + v]


# --- rows mixed and sampled ---------------------------------------------------------------------------


@intrinsic
def _signed_butterfly(typing_context, bits, vector, src, offsets, signs, row, span, column, dst, dst_at, dst_step):
    """As `_butterfly`, of rows found through a table: row k is signs[p] * src[offsets[p] + column …],
    p = row + k * span. Load, sign and permutation cost no pass of their own."""
    if not (isinstance(bits, types.IntegerLiteral) and isinstance(vector, types.IntegerLiteral)):
        return None
    signature = types.void(bits, vector, src, offsets, signs, row, span, column, dst, dst_at, dst_step)
    n_lanes = _lanes(src, vector)

    def generate(context, builder, signature, args):
        def data(i):
            return context.make_array(signature.args[i])(context, builder, args[i]).data

        lanes = ir.VectorType(context.get_value_type(src.dtype), n_lanes)
        src_data, offset_data, sign_data = data(2), data(3), data(4)
        rows = []
        for k in range(2**bits.literal_value):
            place = builder.add(args[5], builder.mul(args[6], ir.Constant(args[6].type, k)))
            at = builder.add(builder.load(builder.gep(offset_data, [place])), args[7])
            address = builder.bitcast(builder.gep(src_data, [at]), lanes.as_pointer())
            sign = spread(builder, builder.load(builder.gep(sign_data, [place])), lanes.count)
            rows.append(builder.fmul(builder.load(address, align=src.dtype.bitwidth // 8), sign))
        rows = _transformed(builder, rows)
        for row, address in zip(rows, _addresses(builder, data(8), lanes, len(rows), *args[9:]), strict=True):
            builder.store(row, address, align=src.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return signature, generate


@jit
def _signed_rows(bits, src, offsets, signs, span, column, buffer, width):
    """Load, sign and transform the highest `bits` bits of the 2**bits * span rows of a run into the buffer."""
    lanes = 64 // src.itemsize
    whole = width - width % lanes
    for row in range(span):
        at, step = row * width, span * width
        if bits == 4:
            for v in range(0, whole, lanes):
                _signed_butterfly(4, 1, src, offsets, signs, row, span, column + v, buffer, at + v, step)
            for v in range(whole, width):
                _signed_butterfly(4, 0, src, offsets, signs, row, span, column + v, buffer, at + v, step)
        else:  # a run is shorter only when the whole matrix is: one row after the other
            for k in range(1 << bits):
                for v in range(width):
                    place = row + k * span
                    buffer[place * width + v] = signs[place] * src[offsets[place] + column + v]
    if bits < 4:
        one = src.dtype.type(1)
        if bits > 0:
            _stage(bits, 0, 0, buffer, 0, width, buffer, 0, width, width, one)


@jit
def _find_rows(run, bits, start, n_rows, row_step, sigma, groups, row_signs, offsets, signs):
    """Fill where in memory the row of each position of a run lies, and its sign; 0 where no row is given."""
    size = sigma.size
    offsets[:] = 0
    signs[:] = 0
    first = ((start >> bits) + run) << bits
    for base in range(0, 1 << bits, size):
        group = ((run << bits) + base) // size
        multiplier, shift = np.int64(groups[group, 0]) | 1, np.int64(groups[group, 1])
        for i in range(size):
            row = first + base + i - start
            if 0 <= row < n_rows:
                position = base + sigma[(multiplier * i + shift) & (size - 1)]
                offsets[position] = row * row_step
                signs[position] = row_signs[row]


@jit
def _mix(src, n_rows, row_step, row0, sigma, groups, row_signs, bits, low, order, flips, out, width, start, stop):
    """Add to the flat out (m × columns) the samples of all runs, for panels start … stop - 1 of `width` columns."""
    n_samples = low.size
    columns = out.size // n_samples
    top = min(4, bits)
    rest = bits - top
    factors = np.array([1, -1]).astype(src.dtype)
    buffer = _aligned(width << bits, src)
    offsets, signs = np.empty(1 << bits, np.int64), np.empty(1 << bits, src.dtype)
    for panel in range(start, stop):
        column = panel * width
        wide = min(width, columns - column)
        for run in range(flips.shape[0]):
            _find_rows(run, bits, row0, n_rows, row_step, sigma, groups, row_signs, offsets, signs)
            _signed_rows(top, src, offsets, signs, 1 << rest, column, buffer, wide)
            sample = 0
            for block in range(1 << top):  # its rows fit the first-level cache: finish them, then sample them
                _low_stages(rest, buffer, (block << rest) * wide, wide)
                while sample < n_samples and low[sample] < (block + 1) << rest:
                    place = order[sample] * columns + column
                    _add_row(buffer, low[sample] * wide, factors[flips[run, sample]], out, place, wide)
                    sample += 1


def flat_rows(block):
    """Return the memory of a 2-d block with contiguous rows as a flat array, and the distance of its rows."""
    if (block.strides[1] != block.itemsize and block.shape[1] > 1) or block.strides[0] < 0:
        block = np.ascontiguousarray(block)
    step = block.strides[0] // block.itemsize
    if block.strides[0] % block.itemsize:
        block, step = np.ascontiguousarray(block), block.shape[1]
    length = (block.shape[0] - 1) * step + block.shape[1]
    return as_strided(block, (length,), (block.itemsize,), writeable=False), step


def _panel(columns, widest):
    """Return a panel width that gives every thread one where it can, in whole vectors."""
    width = min(widest, -(-columns // n_threads()))
    return min(columns, width + -width % 8)


def mix_rows(block, out, start, sigma, groups, signs, bits, low, order, flips):
    src, step = flat_rows(block)
    rows, columns = block.shape
    out = np.ascontiguousarray(out)
    flat, width = out.reshape(-1), _panel(columns, 64)
    launch(
        _mix, -(-columns // width), src, rows, step, start, sigma, groups, signs, bits, low, order, flips, flat, width,
        cost=2.0 * rows * columns,
    )  # fmt: skip
    return out


# --- rows added at random places ----------------------------------------------------------------------


@jit
def _targets(words, j, edges, wide_bands, width, factors, places, signs):
    """Fill where in a flat panel the rows lie that row j of the data is added to, and with which sign."""
    for t in range(places.size):
        place = words[j, 2 * t] if wide_bands else words[j, t]
        sign = words[j, 2 * t + 1] if wide_bands else place
        size = np.uint64(edges[t + 1] - edges[t])
        row = edges[t] + np.int64((np.uint64(place) * size) >> np.uint64(32))
        places[t] = row * width
        signs[t] = factors[sign & np.uint32(1)]


@jit
def _scatter(src, n_rows, row_step, words, m, s, out, width, start, stop):
    """Add signed rows to the flat out (m × columns), for panels start … stop - 1 of `width` columns."""
    columns = out.size // m
    wide_bands = words.shape[1] == 2 * s
    edges = np.arange(s + 1) * m // s
    places, signs = np.empty(s, np.int64), np.empty(s, src.dtype)
    factors = np.array([1, -1]).astype(src.dtype)
    for panel in range(start, stop):
        first, last = panel * width, min((panel + 1) * width, columns)
        for j in range(n_rows):
            _targets(words, j, edges, wide_bands, columns, factors, places, signs)
            at = j * row_step + first
            for t in range(s):
                _add_row(src, at, signs[t], out, places[t] + first, last - first)


def scatter_rows(block, out, words, s):
    src, step = flat_rows(block)
    rows, columns = block.shape
    out, m = np.ascontiguousarray(out), out.shape[0]
    width = _panel(columns, max(64, _SUMS // m))
    panels = -(-columns // width)
    launch(_scatter, panels, src, rows, step, words, m, s, out.reshape(-1), width, cost=0.2 * rows * s * columns)
    return out


# --- residuals of least squares -----------------------------------------------------------------------

_PARTS = 16  # sums of their own, whatever the number of threads: the result does not depend on it
_FLUSHED = 256  # rows summed in the precision of the data before they are added in float64


@jit_reassociating
def _residual(src, row_step, n_rows, columns, b, x, out, start, stop):
    """Fill out[p] with Aᵀr and ‖r‖² of the p-th part of the rows, for parts start … stop - 1.

    Four rows are read together: they are still in the first-level cache when they are read again.
    """
    sums = np.empty(columns, src.dtype)
    for part in range(start, stop):
        first, last = n_rows * part // _PARTS, n_rows * (part + 1) // _PARTS
        squares = 0.0
        for low in range(first, last, _FLUSHED):
            high = min(low + _FLUSHED, last)
            sums[:] = 0
            fours = low + (high - low) // 4 * 4
            for i in range(low, fours, 4):
                a0 = src[i * row_step : i * row_step + columns]
                a1 = src[(i + 1) * row_step : (i + 1) * row_step + columns]
                a2 = src[(i + 2) * row_step : (i + 2) * row_step + columns]
                a3 = src[(i + 3) * row_step : (i + 3) * row_step + columns]
                r0, r1, r2, r3 = b[i], b[i + 1], b[i + 2], b[i + 3]
                for j in range(columns):
                    r0 -= a0[j] * x[j]
                    r1 -= a1[j] * x[j]
                    r2 -= a2[j] * x[j]
                    r3 -= a3[j] * x[j]
                squares += np.float64(r0) ** 2 + np.float64(r1) ** 2 + np.float64(r2) ** 2 + np.float64(r3) ** 2
                for j in range(columns):
                    sums[j] += (r0 * a0[j] + r1 * a1[j]) + (r2 * a2[j] + r3 * a3[j])
            for i in range(fours, high):
                a0 = src[i * row_step : i * row_step + columns]
                r0 = b[i]
                for j in range(columns):
                    r0 -= a0[j] * x[j]
                squares += np.float64(r0) ** 2
                for j in range(columns):
                    sums[j] += r0 * a0[j]
            for j in range(columns):
                out[part, j] += sums[j]
        out[part, columns] = squares


def residual_product(A, b, x):
    src, step = flat_rows(A)
    rows, columns = A.shape
    out = np.zeros((_PARTS, columns + 1))
    b, x = np.ascontiguousarray(b), np.ascontiguousarray(x)
    launch(_residual, _PARTS, src, step, rows, columns, b, x, out, cost=0.5 * rows * columns)
    return out.sum(axis=0)
