"""CPU version of the rank-one kernel: Lanczos in slices that lie in a cache.

The time goes into w = SᵀS x, with one read of S, and into making w orthogonal to the vectors before, which is the
same computation on another matrix: w - VᵀV w. As plain loops LLVM keeps neither rows nor sums in registers, hence
the intrinsics. All that a thread works on lies in one flat array, rows padded with zeros to whole vectors, so that
there are no remainders. Every vector before is taken away at once (classical Gram-Schmidt): as repeated sweeps make
good what one leaves, this is as accurate as one after the other, and nothing waits for a sum.
"""

import math

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .._core.jit import jit, jit_reassociating
from .._core.llvm import VECTOR_BYTES, WIDE, multiply_add, shuffled, spread
from .._core.random import Stream, normals
from .._core.threads import launch

_ROWS = 8  # rows that are read together; S and V are padded to a multiple
_GROUP = 2**18  # bytes of slices that are copied together: a share of the second-level cache
_LINE = 64  # bytes; so many slices are copied together that they use up lines of columns, too
_EPS = 2.0**-52
_LITTLE = 2.0**-300
_NOT_FINITE = 2**20  # an exponent that no number has


# --- vectors ------------------------------------------------------------------------------------------


def _lanes(builder_type):
    """Return how many numbers of an LLVM type a vector holds."""
    return VECTOR_BYTES // (8 if builder_type == ir.DoubleType() else 4)


def _data(context, builder, array_type, array):
    return context.make_array(array_type)(context, builder, array).data


def _at(builder, data, place, kind):
    """Emit the address of element `place`, as a pointer to `kind`."""
    return builder.bitcast(builder.gep(data, [place]), kind.as_pointer())


def _load(builder, data, place, kind, align):
    return builder.load(_at(builder, data, place, kind), align=align)


def _halvings(count, quarter):
    """Yield masks (even, odd) that fold two vectors into one, neighbours of x added, then those of y; and how many
    lanes neighbours are.

    First within 128 bits (`quarter` lanes), then across. Lane i of x is i, lane i of y is count + i.
    """
    for span, unit in ((quarter, 1), (count, quarter)):
        even, odd = (
            [
                side + start + block * unit + i
                for start in range(0, count, span)
                for side in (0, count)
                for block in range(first, span // unit, 2)
                for i in range(unit)
            ]
            for first in (0, 1)
        )
        for _ in range((span // unit).bit_length() - 1):
            yield even, odd, unit


def _sums(builder, vectors):
    """Emit the sums over the lanes of vectors, a power of two of them.

    A list of pairs: a vector of sums, and which of them each lane holds. One pair, unless there are more sums than
    lanes.
    """
    count = vectors[0].type.count
    vectors = [(vector, [row] * count) for row, vector in enumerate(vectors)]
    distance = 0
    for even, odd, unit in _halvings(count, count * 16 // VECTOR_BYTES):
        if len(vectors) > 1:
            folded = []
            for (x, of_x), (y, of_y) in zip(vectors[::2], vectors[1::2], strict=True):
                total = builder.fadd(shuffled(builder, x, y, even), shuffled(builder, x, y, odd))
                folded.append((total, [(of_x + of_y)[place] for place in even]))
            vectors = folded
        else:  # one vector is folded in place, over longer and longer distances
            distance = unit if distance < unit else 2 * distance
            x, of_x = vectors[0]
            swapped = [lane ^ distance for lane in range(count)]
            vectors = [(builder.fadd(x, shuffled(builder, x, x, swapped)), of_x)]
    return vectors


def _one_of(builder, sums, row):
    """Emit a vector of one sum, taken from where it is nearest."""
    vector, held = next(pair for pair in sums if row in pair[1])
    count = vector.type.count
    quarter = count * 16 // VECTOR_BYTES
    places = []
    for lane in range(count):
        start = lane - lane % quarter
        near = [start + i for i in range(quarter) if held[start + i] == row]
        places.append(near[0] if near else held.index(row))
    return shuffled(builder, vector, vector, places)


def _total(builder, vectors):
    """Emit the sum over all lanes of all vectors."""
    while len(vectors) > 1:
        pairs = [builder.fadd(x, y) for x, y in zip(vectors[::2], vectors[1::2], strict=False)]
        vectors = pairs + vectors[2 * len(pairs) :]
    return builder.extract_element(_sums(builder, vectors)[0][0], ir.Constant(ir.IntType(32), 0))


@intrinsic
def _pass(typing_context, unrolled, scratch, at, step, rows, x, out, sums, kept, sign):
    """Write kept·x + sign·MᵀM x to `out`, its squared length is returned, and M x to `sums`.

    M has `rows` rows of `step` elements from `at` on, whole vectors, followed by rows of zeros. `unrolled` is the
    number of vectors of a row, where x and sums of as many go into registers, else 0; then x and out must not
    overlap.
    """
    if not isinstance(unrolled, types.IntegerLiteral):
        return None
    signature = scratch.dtype(unrolled, scratch, at, step, rows, x, out, sums, kept, sign)
    vectors = unrolled.literal_value

    def generate(context, builder, signature, args):
        data = _data(context, builder, scratch, args[1])
        real, args = context.get_value_type(scratch.dtype), [data, *args[2:]]
        function = _function(builder.module, f"linalg_ml_pass_{vectors}_{scratch.dtype}", real, args, vectors)
        return builder.call(function, args)

    return signature, generate


def _function(module, name, real, args, vectors):
    """Return the pass as a function of its own: one, wherever it is called."""
    if name in module.globals:
        return module.globals[name]
    function = ir.Function(module, ir.FunctionType(real, [arg.type for arg in args]), name)
    function.linkage = "internal"
    function.attributes.add("noinline")
    builder = ir.IRBuilder(function.append_basic_block())
    emit = _emit_unrolled if vectors else _emit_general
    builder.ret(emit(builder, function.args[0], real, vectors, *function.args[1:]))
    return function


def _store_sums(builder, data, sums, place):
    for vector, held in sums:
        rows = sorted(set(held))
        packed = shuffled(builder, vector, vector, [held.index(row) for row in rows])
        first = builder.add(place, ir.Constant(place.type, rows[0]))
        builder.store(packed, _at(builder, data, first, packed.type), align=VECTOR_BYTES // vector.type.count)


def _emit_unrolled(builder, data, real, n_vectors, at, step, rows, x_at, out_at, sums_at, kept, sign):
    """Keep x and the sums over rows in registers.

    A group of rows is multiplied by x while the one before, whose products have just been stored, is added up: the
    products come back from memory in all lanes of a vector, which costs a load and no shuffle.
    """
    index = at.type
    count = _lanes(real)
    lanes, size = ir.VectorType(real, count), VECTOR_BYTES // count
    offsets = [ir.Constant(index, c * count) for c in range(n_vectors)]
    x = [_load(builder, data, builder.add(x_at, offset), lanes, size) for offset in offsets]
    w = [cgutils.alloca_once_value(builder, ir.Constant(lanes, None)) for _ in offsets]

    def row_starts(group):
        row = builder.mul(group, ir.Constant(index, _ROWS))
        first = builder.add(at, builder.mul(row, step))
        return row, [builder.add(first, builder.mul(step, ir.Constant(index, r))) for r in range(_ROWS)]

    def multiply(group):
        row, starts = row_starts(group)
        products = []
        for start in starts:
            entries = [_load(builder, data, builder.add(start, offset), lanes, size) for offset in offsets]
            product = builder.fmul(entries[0], x[0])
            for entry, value in zip(entries[1:], x[1:], strict=True):
                product = multiply_add(builder, entry, value, product)
            products.append(product)
        _store_sums(builder, data, _sums(builder, products), builder.add(sums_at, row))

    def add_up(group):
        row, starts = row_starts(group)
        values = [builder.load(place) for place in w]
        for r, start in enumerate(starts):
            place = builder.add(sums_at, builder.add(row, ir.Constant(index, r)))
            factor = spread(builder, builder.load(builder.gep(data, [place])), count)
            for c, offset in enumerate(offsets):
                entry = _load(builder, data, builder.add(start, offset), lanes, size)
                values[c] = multiply_add(builder, factor, entry, values[c])
        for value, place in zip(values, w, strict=True):
            builder.store(value, place)

    one = ir.Constant(index, 1)
    last = builder.udiv(builder.sub(rows, one), ir.Constant(index, _ROWS))
    multiply(ir.Constant(index, 0))
    with cgutils.for_range(builder, last) as loop:
        multiply(builder.add(loop.index, one))
        add_up(loop.index)
    add_up(last)
    kept, sign = spread(builder, kept, count), spread(builder, sign, count)
    squares = []
    for c, offset in enumerate(offsets):
        value = multiply_add(builder, builder.load(w[c]), sign, builder.fmul(x[c], kept))
        builder.store(value, _at(builder, data, builder.add(out_at, offset), lanes), align=size)
        squares.append(builder.fmul(value, value))
    return _total(builder, squares)


def _emit_general(builder, data, real, _, at, step, rows, x_at, out_at, sums_at, kept, sign):
    """Keep the sums over columns of a group of rows in registers, and read the group twice."""
    index = at.type
    count = _lanes(real)
    lanes, size = ir.VectorType(real, count), VECTOR_BYTES // count
    zero = ir.Constant(lanes, None)
    n_vectors = builder.udiv(step, ir.Constant(index, count))
    kept, sign = spread(builder, kept, count), spread(builder, sign, count)

    def columns():
        return cgutils.for_range(builder, n_vectors)

    def place(start, loop):
        return builder.add(start, builder.mul(loop.index, ir.Constant(index, count)))

    with columns() as loop:
        value = _load(builder, data, place(x_at, loop), lanes, size)
        builder.store(builder.fmul(value, kept), _at(builder, data, place(out_at, loop), lanes), align=size)
    groups = builder.udiv(builder.add(rows, ir.Constant(index, _ROWS - 1)), ir.Constant(index, _ROWS))
    products = [cgutils.alloca_once(builder, lanes) for _ in range(_ROWS)]
    with cgutils.for_range(builder, groups) as group:
        row = builder.mul(group.index, ir.Constant(index, _ROWS))
        first = builder.add(at, builder.mul(row, step))
        starts = [builder.add(first, builder.mul(step, ir.Constant(index, r))) for r in range(_ROWS)]
        for product in products:
            builder.store(zero, product)
        with columns() as loop:
            x = _load(builder, data, place(x_at, loop), lanes, size)
            for start, product in zip(starts, products, strict=True):
                M = _load(builder, data, place(start, loop), lanes, size)
                builder.store(multiply_add(builder, M, x, builder.load(product)), product)
        totals = _sums(builder, [builder.load(product) for product in products])
        _store_sums(builder, data, totals, builder.add(sums_at, row))
        totals = [(builder.fmul(total, sign), held) for total, held in totals]
        a = [_one_of(builder, totals, r) for r in range(_ROWS)]
        with columns() as loop:
            value = _load(builder, data, place(out_at, loop), lanes, size)
            for start, factor in zip(starts, a, strict=True):
                value = multiply_add(builder, factor, _load(builder, data, place(start, loop), lanes, size), value)
            builder.store(value, _at(builder, data, place(out_at, loop), lanes), align=size)
    squares = cgutils.alloca_once_value(builder, zero)
    with columns() as loop:
        value = _load(builder, data, place(out_at, loop), lanes, size)
        builder.store(multiply_add(builder, value, value, builder.load(squares)), squares)
    return _total(builder, [builder.load(squares)])


@intrinsic
def _scale(typing_context, scratch, x, step, factor, out):
    """Write factor · x, of `step` elements, to `out`."""
    signature = types.void(scratch, x, step, factor, out)

    def generate(context, builder, signature, args):
        data = _data(context, builder, scratch, args[0])
        _, x, step, factor, out = args
        index, count = x.type, _lanes(factor.type)
        lanes, size = ir.VectorType(factor.type, count), VECTOR_BYTES // count
        factor = spread(builder, factor, count)
        with cgutils.for_range(builder, builder.udiv(step, ir.Constant(index, count))) as loop:
            offset = builder.mul(loop.index, ir.Constant(index, count))
            value = builder.fmul(_load(builder, data, builder.add(x, offset), lanes, size), factor)
            builder.store(value, _at(builder, data, builder.add(out, offset), lanes), align=size)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def _combine(typing_context, scratch, at, step, rows, weights, out):
    """Write Σ weights[r] · row r to `out`, for rows of `step` elements from `at` on; return its squared length."""
    signature = scratch.dtype(scratch, at, step, rows, weights, out)

    def generate(context, builder, signature, args):
        data, factors = (_data(context, builder, signature.args[i], args[i]) for i in (0, 4))
        _, at, step, rows, _, out = args
        real, index = context.get_value_type(scratch.dtype), at.type
        count = _lanes(real)
        lanes, size = ir.VectorType(real, count), VECTOR_BYTES // count
        zero = ir.Constant(lanes, None)
        squares, value = (cgutils.alloca_once_value(builder, zero) for _ in range(2))
        with cgutils.for_range(builder, builder.udiv(step, ir.Constant(index, count))) as loop:
            offset = builder.mul(loop.index, ir.Constant(index, count))
            builder.store(zero, value)
            with cgutils.for_range(builder, rows) as inner:
                weight = builder.load(builder.gep(factors, [inner.index]))
                weight = context.cast(builder, weight, weights.dtype, scratch.dtype)
                place = builder.add(builder.add(at, offset), builder.mul(inner.index, step))
                row = _load(builder, data, place, lanes, size)
                builder.store(multiply_add(builder, spread(builder, weight, count), row, builder.load(value)), value)
            total = builder.load(value)
            builder.store(total, _at(builder, data, builder.add(out, offset), lanes), align=size)
            builder.store(multiply_add(builder, total, total, builder.load(squares)), squares)
        return _total(builder, [builder.load(squares)])

    return signature, generate


@intrinsic
def _errors(typing_context, scratch, at, step, rows, left, right, out):
    """Write ‖S - left rightᵀ‖² and ‖S‖² to out[0] and out[1], all in float64.

    S has `rows` rows, an even number, of `step` elements from `at` on; left and right are float64 and as long.
    """
    signature = types.void(scratch, at, step, rows, left, right, out)

    def generate(context, builder, signature, args):
        data, long, short, results = (_data(context, builder, signature.args[i], args[i]) for i in (0, 4, 5, 6))
        _, at, step, rows, *_ = args
        real, double, index = context.get_value_type(scratch.dtype), ir.DoubleType(), at.type
        count = VECTOR_BYTES // 8
        narrow, lanes = ir.VectorType(real, count), ir.VectorType(double, count)
        zero = ir.Constant(lanes, None)
        sums = [cgutils.alloca_once_value(builder, zero) for _ in range(4)]
        two = ir.Constant(index, 2)
        with cgutils.for_range(builder, builder.udiv(rows, two)) as loop:
            row = builder.mul(loop.index, two)
            factors = [
                spread(builder, builder.load(builder.gep(long, [builder.add(row, ir.Constant(index, r))])), count)
                for r in range(2)
            ]
            start = builder.add(at, builder.mul(row, step))
            with cgutils.for_range(builder, builder.udiv(step, ir.Constant(index, count))) as inner:
                column = builder.mul(inner.index, ir.Constant(index, count))
                other = _load(builder, short, column, lanes, 8)
                for r in range(2):
                    place = builder.add(builder.add(start, column), builder.mul(step, ir.Constant(index, r)))
                    value = _load(builder, data, place, narrow, scratch.dtype.bitwidth // 8)
                    value = value if narrow == lanes else builder.fpext(value, lanes)
                    rest = multiply_add(builder, builder.fneg(factors[r]), other, value)
                    for k, term in ((r, rest), (2 + r, value)):
                        builder.store(multiply_add(builder, term, term, builder.load(sums[k])), sums[k])
        for k in range(2):
            total = _total(builder, [builder.load(sums[2 * k]), builder.load(sums[2 * k + 1])])
            builder.store(total, builder.gep(results, [ir.Constant(index, k)]))
        return context.get_dummy_value()

    return signature, generate


# --- copying ------------------------------------------------------------------------------------------


def _magnitudes(builder, bits):
    """Emit the bits of numbers without their signs: as integers they order as the moduli do, NaN above infinity."""
    element = bits.type.element if isinstance(bits.type, ir.VectorType) else bits.type
    mask = ir.Constant(element, 2 ** (element.width - 1) - 1)
    if isinstance(bits.type, ir.VectorType):
        mask = ir.Constant(bits.type, [mask] * bits.type.count)
    return builder.and_(bits, mask)


def _larger(builder, x, y):
    return builder.select(builder.icmp_signed(">", x, y), x, y)


@intrinsic
def _copy_vectors(typing_context, address, count, scratch, at, peaks, peaks_at):
    """Copy `count` vectors from an address of any alignment, and keep the largest magnitude of every lane."""
    signature = types.void(address, count, scratch, at, peaks, peaks_at)

    def generate(context, builder, signature, args):
        address, count, _, at, _, peaks_at = args
        data, peak_data = (_data(context, builder, signature.args[i], args[i]) for i in (2, 4))
        index, n_lanes = address.type, 8 * VECTOR_BYTES // scratch.dtype.bitwidth
        lanes = ir.VectorType(ir.IntType(scratch.dtype.bitwidth), n_lanes)
        size = scratch.dtype.bitwidth // 8
        peak_place = _at(builder, peak_data, peaks_at, lanes)
        peak = cgutils.alloca_once_value(builder, builder.load(peak_place, align=size))
        with cgutils.for_range(builder, count) as loop:
            source = builder.add(address, builder.mul(loop.index, ir.Constant(index, VECTOR_BYTES)))
            bits = builder.load(builder.inttoptr(source, lanes.as_pointer()), align=1)
            place = builder.add(at, builder.mul(loop.index, ir.Constant(index, n_lanes)))
            builder.store(bits, _at(builder, data, place, lanes), align=size)
            builder.store(_larger(builder, _magnitudes(builder, bits), builder.load(peak)), peak)
        builder.store(builder.load(peak), peak_place, align=size)
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def _copy_number(typing_context, address, scratch, at, peaks, peaks_at):
    """Copy one number from an address, and keep the largest magnitude."""
    signature = types.void(address, scratch, at, peaks, peaks_at)

    def generate(context, builder, signature, args):
        data, peak_data = (_data(context, builder, signature.args[i], args[i]) for i in (1, 3))
        kind = ir.IntType(scratch.dtype.bitwidth)
        bits = builder.load(builder.inttoptr(args[0], kind.as_pointer()), align=1)
        size = scratch.dtype.bitwidth // 8
        builder.store(bits, _at(builder, data, args[2], kind), align=size)
        place = _at(builder, peak_data, args[4], kind)
        builder.store(_larger(builder, _magnitudes(builder, bits), builder.load(place, align=size)), place, align=size)
        return context.get_dummy_value()

    return signature, generate


@jit
def _fill(address, across, down, along, rows, columns, slices, scratch, step, size, peaks, lanes):
    """Copy slices (rows × columns) into scratch, `size` elements apart, rows `step` elements apart.

    `across`, `down` and `along` are the distances in bytes of slices, rows and columns in the source. Neighbouring
    slices are read together, since their rows are neighbours in memory.
    """
    whole = columns // lanes if along == scratch.itemsize else 0
    for row in range(rows):
        for s in range(slices):
            source = address + s * across + row * down
            at = s * size + row * step
            _copy_vectors(source, whole, scratch, at, peaks, s * lanes)
            if whole:
                for column in range(whole * lanes, columns):
                    _copy_number(source + column * along, scratch, at + column, peaks, s * lanes)
    if not whole:
        for first in range(0, columns, 8):  # so few columns that their cache lines stay until the next row
            for row in range(rows):
                for s in range(slices):
                    for column in range(first, min(first + 8, columns)):
                        _copy_number(address + s * across + row * down + column * along, scratch,
                                     s * size + row * step + column, peaks, s * lanes + column % lanes)  # fmt: skip


@jit
def _transpose(scratch, source, source_step, rows, columns, out, step):
    """Write the transpose of a matrix (rows × columns) that lies in scratch to another place there."""
    for first in range(0, rows, 8):
        for column in range(columns):
            for row in range(first, min(first + 8, rows)):
                scratch[out + column * step + row] = scratch[source + row * source_step + column]


@jit
def _exponent(magnitude, mantissa):
    """Return floor(log2) of the number whose bits, without sign, these are; _NOT_FINITE for NaN and infinity."""
    bias = 127 if mantissa == 23 else 1023
    field = magnitude >> mantissa
    if field == 2 * bias + 1:
        return _NOT_FINITE
    if field > 0:
        return field - bias
    exponent = 1 - bias - mantissa - 1
    while magnitude > 0:
        magnitude >>= 1
        exponent += 1
    return exponent


@jit
def _rescale(scratch, at, size, factor):
    """Multiply by factor², in two steps: the square itself may be beyond the largest or the least number."""
    for i in range(at, at + size):
        scratch[i] *= factor
    for i in range(at, at + size):
        scratch[i] *= factor


# --- tridiagonal matrices -------------------------------------------------------------------------------


@jit_reassociating
def _characteristic(a, b2, k, x):
    """Return the characteristic polynomial p of the first k rows at x, p', p'', that of k - 1 rows, all up to a common
    factor, and the number of eigenvalues above x.

    The three-term recurrence has no division in its way, which makes it several times faster than that of the
    pivots. What it needs is a look at the range: |a|, |b| and x are at most one.
    """
    p, p1, p2 = 1.0, 0.0, 0.0
    o, o1, o2 = 0.0, 0.0, 0.0
    above = 0
    for start in range(0, k, 8):
        for i in range(start, min(start + 8, k)):
            d, c = x - a[i], b2[i]
            n = d * p - c * o
            n1 = d * p1 + (p - c * o1)
            n2 = d * p2 + (2 * p1 - c * o2)
            o, o1, o2 = p, p1, p2
            p, p1, p2 = n, n1, n2
            above += (p < 0) != (o < 0)
        if abs(p) < _LITTLE:
            p, p1, p2, o, o1, o2 = p / _LITTLE, p1 / _LITTLE, p2 / _LITTLE, o / _LITTLE, o1 / _LITTLE, o2 / _LITTLE
    return p, p1, p2, o, above


@jit_reassociating
def _largest(a, b2, k, x, known):
    """Return the largest eigenvalue, or the second if the largest is `known` (else 0); and the squared last entry of
    its vector, to about ten digits behind the point. By Laguerre's iteration from x on.

    From the right of all eigenvalues it is monotone, and cubic in the end; if x is not there it starts at one.
    """
    before, n, step, near = 0.0, k, 1.0, False
    for turn in range(100):
        p, p1, p2, o, above = _characteristic(a, b2, k, x)
        if turn == 0 and above > (known > 0):
            x = 1 + 4 * _EPS
            continue
        if near or above > (known > 0):  # beyond it only by rounding
            break
        g = p1 / p
        h = g * g - p2 / p
        if known > 0:
            other = 1 / (x - known)
            g, h, n = g - other, h - other * other, k - 1
        step = n / (g + math.sqrt(max((n - 1) * (n * h - g * g), 0.0)))
        if not step > 0:
            break
        x -= step
        near = step <= 4 * _EPS or step * (step / before) ** 2 <= 4 * _EPS  # the next one would be less
        before = step
    return x, o / p1


@jit_reassociating
def _eigenvector(a, b, b2, k, x, down, up, z):
    """Fill z with the unit eigenvector of eigenvalue x by the twisted factorisation."""
    p, o = 1.0, 0.0
    for start in range(0, k, 8):
        for i in range(start, min(start + 8, k)):
            n = (x - a[i]) * p - b2[i] * o
            down[i] = n / p
            o, p = p, n
        if abs(p) < _LITTLE:
            o, p = o / _LITTLE, p / _LITTLE
    p, o = 1.0, 0.0
    for start in range(k - 1, -1, -8):
        for i in range(start, max(start - 8, -1), -1):
            n = (x - a[i]) * p - b2[i + 1] * o
            up[i] = n / p
            o, p = p, n
        if abs(p) < _LITTLE:
            o, p = o / _LITTLE, p / _LITTLE
    twist, least = 0, np.inf
    for i in range(k):
        gamma = abs(down[i] + up[i] - (x - a[i]))
        if gamma < least:
            twist, least = i, gamma
    for i in range(k - 1):  # from here on, what leads from one entry to the next
        down[i] = b[i] / down[i]
        up[i] = b[i] / up[i + 1]
    z[twist] = 1.0
    for i in range(twist - 1, -1, -1):
        z[i] = z[i + 1] * down[i]
    for i in range(twist, k - 1):
        z[i + 1] = z[i] * up[i]
    total = 0.0
    for i in range(k):
        total += z[i] * z[i]
    scale = 1 / math.sqrt(total)
    for i in range(k):
        z[i] *= scale


@jit_reassociating
def _normalise(al, be, k, bound, a, b, b2):
    """Fill a, b and b² with the tridiagonal matrix divided by a bound of its eigenvalues."""
    inverse = 1 / bound
    for i in range(k):
        a[i] = al[i] * inverse
    b2[0] = 0.0
    for i in range(k - 1):
        b[i] = be[i] * inverse
        b2[i + 1] = b[i] * b[i]
    b2[k] = 0.0


# --- one slice ------------------------------------------------------------------------------------------


@jit
def _apply(scratch, at, step, rows, x, out, sums, kept, sign, lanes):
    """Choose the pass for this length of rows."""
    n = step // lanes
    if n == 1:
        return _pass(1, scratch, at, step, rows, x, out, sums, kept, sign)
    if n == 2:
        return _pass(2, scratch, at, step, rows, x, out, sums, kept, sign)
    if n == 4 and WIDE:
        return _pass(4, scratch, at, step, rows, x, out, sums, kept, sign)
    if n == 8 and WIDE:
        return _pass(8, scratch, at, step, rows, x, out, sums, kept, sign)
    return _pass(0, scratch, at, step, rows, x, out, sums, kept, sign)


@jit_reassociating
def _three_term(scratch, v, w, count, second, beta):
    """Take from w the parts along v, and β times the vector before it if there is a `second`; return α and |w|."""
    if second:
        for c in range(count):
            scratch[w + c] -= beta * scratch[v - count + c]
    alpha = scratch.dtype.type(0)
    for c in range(count):
        alpha += scratch[v + c] * scratch[w + c]
    total = scratch.dtype.type(0)
    for c in range(count):
        rest = scratch[w + c] - alpha * scratch[v + c]
        scratch[w + c] = rest
        total += rest * rest
    return float(alpha), math.sqrt(float(total))


@jit
def _lanczos(scratch, at, step, p, q, V, w, other, sums, tridiagonal, tol, lanes):
    """Fill row 0 of `tridiagonal` with the leading eigenvector in the basis V; return its length, the eigenvalue
    divided by a bound, this bound, the trace, and whether the space closed before all of it was seen.
    """
    z, al, be, a, b, b2, down, up = tridiagonal
    zero, one = scratch.dtype.type(0), scratch.dtype.type(1)
    largest, widest, trace = 0.0, 0.0, 0.0
    theta, residual = 0.0, np.inf
    digits, checked, check = 0.0, 0, 2  # digits still to be gained, when they were counted, when to count again
    for t in range(q):
        _apply(scratch, at, step, p, V + t * step, w, sums, zero, one, lanes)
        # Most of w lies along the last two vectors. They go first: a sweep is exact to rounding of what it is given.
        al[t], before = _three_term(scratch, V + t * step, w, step, t > 0, scratch.dtype.type(be[t - 1]))
        length = 0.0
        # Where few singular values differ the space closes early, and what is left after one sweep is rounding,
        # anything but orthogonal: sweep until little was taken away.
        for sweep in range(3):
            length = math.sqrt(_apply(scratch, V, step, t + 1, w, other, sums, one, -one, lanes))
            w, other = other, w
            if sweep == 0:
                al[t] += scratch[sums + t]
                largest = max(largest, al[t])
                trace += al[t]
            if length > 0.1 * before or length <= tol * largest:
                break
            before = length
        closed = length <= tol * largest
        last = closed or t == q - 1
        if last or t + 1 == check:
            bound = largest + 2 * widest
            _normalise(al, be, t + 1, bound, a, b, b2)
            above = min((theta + residual) / bound, 1 + 4 * _EPS)
            theta, square = _largest(a, b2, t + 1, above, 0.0)
            ratio = length * math.sqrt(max(square, 0.0)) / (tol * theta * bound)
            if last or square < 1e-10 or ratio <= 1:
                _eigenvector(a, b, b2, t + 1, theta, down, up, z)
                square = z[t] * z[t]
                ratio = length * abs(z[t]) / (tol * theta * bound)
            if last or ratio <= 1:
                return t + 1, theta, bound, trace, closed and t < q - 1
            residual = length * math.sqrt(square)
            theta *= bound
            missing, digits = digits, math.log10(ratio)
            gained = (missing - digits) / (t + 1 - checked)
            checked = t + 1
            check = min(checked + max(1, int(digits / max(0.6, 1.2 * gained) + 0.5)), q)
        if t == 0:
            digits, checked = math.log10(length / (tol * al[0])), 1
        be[t] = length
        widest = max(widest, length)
        start = V + (t + 1) * step
        _scale(scratch, w, step, scratch.dtype.type(1 / length), start)
        if (t + 1) % _ROWS == 0:  # the pass reads whole groups of rows
            scratch[start + step : start + _ROWS * step] = 0
    return 0, 0.0, 1.0, 0.0, False  # not reached: the last step always ends


@jit_reassociating
def _squares(x, at, count):
    """Return the sum of squares, in float64."""
    total = 0.0
    for i in range(at, at + count):
        total += np.float64(x[i]) * np.float64(x[i])
    return total


@jit
def _top(x, at, count):
    """Return the entry of largest modulus."""
    top = x[at]
    for i in range(at + 1, at + count):
        if abs(x[i]) > abs(top):
            top = x[i]
    return top


@jit
def _start(scratch, V, step, q, start):
    """Write the normalised start to the first row of the basis, and zeros to the other rows of its group."""
    total = 0.0
    for i in range(q):
        total += np.float64(start[i]) ** 2
    scale = 1 / math.sqrt(total)
    for i in range(q):
        scratch[V + i] = start[i] * scale
    scratch[V + q : V + _ROWS * step] = 0


@jit
def _factors(scratch, at, step, p, q, V, w, other, sums, k, z, long, short, swapped, lanes):
    """Fill long and short (float64, but rounded to the dtype of scratch) with the factors of a slice; return σ."""
    zero, one = scratch.dtype.type(0), scratch.dtype.type(1)
    scale = scratch.dtype.type(1 / math.sqrt(_combine(scratch, V, step, k, z, w)))
    _scale(scratch, w, step, scale, w)
    _apply(scratch, at, step, p, w, other, sums, zero, one, lanes)
    sigma = math.sqrt(_squares(scratch, sums, p))
    root = math.sqrt(sigma)
    top = _top(scratch, sums, p) if swapped else _top(scratch, w, q)
    sign = -1.0 if top < 0 else 1.0
    for i in range(p):
        long[i] = scratch.dtype.type(scratch[sums + i] * (sign / root))
    for i in range(q):
        short[i] = scratch.dtype.type(scratch[w + i] * (sign * root))
    return sigma


@jit
def _gap(theta, second, missing, closed):
    """Return 1 - σ₂²/σ², where `second` was seen; where the space closed, what is missing may repeat the largest."""
    return 0.0 if closed and missing > 0.999 * theta else min(1.0, max(0.0, 1 - second / theta))


# --- all slices -----------------------------------------------------------------------------------------


@jit
def _load_group(address, strides, shape, nblocks, k, first, last, swapped, scratch, step, size, stage, stage_step,
                peaks, lanes):  # fmt: skip
    """Copy the slices of row blocks first … last - 1 of column block k; the first of them have a row more, maybe.

    Slices that must be transposed are copied to `stage` first, if their rows are contiguous: whole vectors are read
    several times as fast.
    """
    m, n = shape
    J, K = nblocks
    q = (n + K - 1) // K
    width = max(0, min(q, n - k * q))
    source = address + k * q * strides[1]
    whole, rest = m // J, m % J
    staged = swapped and strides[1] == scratch.itemsize
    turned = swapped and not staged
    down, along = (strides[1], J * strides[0]) if turned else (J * strides[0], strides[1])
    stage_size = (m + J - 1) // J * stage_step
    for run in range(2):
        start, stop = (first, min(last, rest)) if run == 0 else (max(first, rest), last)
        height = whole + 1 - run
        rows, columns = (width, height) if turned else (height, width)
        if start < stop:
            at = start - first
            target, target_step, target_size = (stage, stage_step, stage_size) if staged else (0, step, size)
            _fill(source + start * strides[0], strides[0], down, along, rows, columns, stop - start,
                  scratch[target + at * target_size :], target_step, target_size, peaks[at * lanes :],
                  lanes)  # fmt: skip
            if staged:
                for s in range(at, stop - first):
                    _transpose(scratch, stage + s * stage_size, stage_step, rows, columns, s * size, step)


@jit
def _store(long, short, half, swapped, left, right):
    """Write the factors of a slice times 2**half."""
    factor = math.ldexp(1.0, half)
    if swapped:
        long, short = short, long
    for i in range(left.size):
        left[i] = long[i] * factor
    for i in range(right.size):
        right[i] = short[i] * factor


@jit
def _units(address, strides, shape, nblocks, group, lanes, integers, starts, left, right, facts, suspect, start, stop):
    """Do the slices of units start … stop - 1: `group` neighbouring row blocks of one column block.

    Column blocks follow each other, so that rows are read from end to end by and by.
    """
    m, n = shape
    J, K = nblocks
    p, q = (m + J - 1) // J, (n + K - 1) // K
    swapped = p < q
    rows, columns = max(p, q), min(p, q)
    step = (columns + lanes - 1) // lanes * lanes
    size = (rows + _ROWS - 1) // _ROWS * _ROWS * step
    vectors = columns // _ROWS * _ROWS + _ROWS
    narrow = left.itemsize == 4
    tol, mantissa, safe = (10 * 2.0**-23, 23, 16) if narrow else (10 * 2.0**-52, 52, 100)
    V = group * size
    w = V + vectors * step
    sums = w + 2 * step
    # The stage is used before there is a basis, so it may lie in the same place.
    stage_step = (q + lanes - 1) // lanes * lanes
    length = max(sums + max(size // step, vectors), V + group * p * stage_step if swapped else 0)
    memory = np.zeros(length + 16, left.dtype)
    scratch = memory[(-memory.ctypes.data // memory.itemsize) % (64 // memory.itemsize) :]
    peaks = np.zeros(group * lanes, integers.dtype)
    tridiagonal = np.empty((8, columns + 1))
    work = (tridiagonal[0], tridiagonal[1], tridiagonal[2], tridiagonal[3], tridiagonal[4], tridiagonal[5],
            tridiagonal[6], tridiagonal[7])  # fmt: skip
    long, short = np.zeros(size // step), np.zeros(step)
    found = np.zeros(4)
    groups = (J + group - 1) // group
    for unit in range(start, stop):
        k, b = unit % K, unit // (K * groups)
        first = unit // K % groups * group
        last = min(J, first + group)
        peaks[:] = 0
        if m % J or n % K:
            scratch[:V] = 0
        _load_group(address + b * strides[0], strides[1:], shape, nblocks, k, first, last, swapped, scratch, step, size,
                    V, stage_step, peaks, lanes)  # fmt: skip
        for j in range(first, last):
            s = j - first
            at = s * size
            long[:] = 0
            short[:] = 0
            found[:] = 0
            half = 0
            peak = np.int64(peaks[s * lanes : (s + 1) * lanes].max())
            exponent = _exponent(peak, mantissa)
            if exponent == _NOT_FINITE:
                found[3] = np.nan
            elif peak > 0:
                if abs(exponent) > safe:
                    half = exponent // 2
                    _rescale(scratch, at, size, left.dtype.type(math.ldexp(1.0, -half)))
                _start(scratch, V, step, columns, starts[(b * K + k) * J + j])
                length, theta, bound, trace, closed = _lanczos(
                    scratch, at, step, rows, columns, V, w, w + step, sums, work, tol, lanes
                )
                sigma = _factors(
                    scratch, at, step, rows, columns, V, w, w + step, sums, length, work[0], long, short, swapped, lanes
                )
                _errors(scratch, at, step, (rows + 1) // 2 * 2, long, short, found[2:])
                second = max(_largest(work[3], work[5], length, 1 + 4 * _EPS, theta)[0], 0.0) if length > 1 else 0.0
                found[0] = sigma
                found[1] = _gap(theta, second, found[3] / bound - trace / bound, closed)
                found[2], found[3] = math.sqrt(found[2]), math.sqrt(found[3])
                suspect[b, k, j] = abs(sigma * sigma / bound - theta) > 1e3 * tol * theta
            _store(long, short, half, swapped, left[b, j, :, k], right[b, k, j])
            power = math.ldexp(1.0, half)
            facts[0, b, k, j] = found[0] * power * power
            facts[1, b, k, j] = found[1]
            facts[2, b, k, j] = found[2] * power * power
            facts[3, b, k, j] = found[3] * power * power


def rank_one(A, nblocks, key):
    batch, m, n = A.shape
    J, K = nblocks
    p, q = -(-m // J), -(-n // K)
    starts = normals(key, Stream.STARTS, range(batch * K * J), min(p, q), to=A)
    left = np.empty((batch, J, p, K), A.dtype)
    # A start is read before its slice's factors are written: where they are as long, one memory serves both.
    right = starts.reshape(batch, K, J, q) if p >= q else np.empty((batch, K, J, q), A.dtype)
    facts = np.zeros((4, batch, K, J))
    suspect = np.zeros((batch, K, J), np.bool_)
    lanes = VECTOR_BYTES // A.itemsize
    rows, columns = max(p, q), min(p, q)
    size = -(-rows // _ROWS) * _ROWS * -(-columns // lanes) * VECTOR_BYTES
    group = max(1, min(J, _LINE // A.itemsize, _GROUP // size))
    units = batch * K * -(-J // group)
    launch(
        _units, units, A.ctypes.data, A.strides, (m, n), (J, K), group, lanes, np.empty(0, f"i{A.itemsize}"), starts,
        left, right, facts, suspect, cost=4.0 * batch * m * n,
    )  # fmt: skip
    return left, right, *facts, suspect
