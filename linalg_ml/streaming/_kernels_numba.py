"""CPU versions of the streams' kernels.

A block lies in the second-level cache: its norms are formed first, then its products with all directions, then those
of these products with its rows. As plain loops LLVM keeps neither in registers, hence the intrinsics: a tile of rows
and directions has its sums in registers over all columns, a panel of columns over all rows. Every sum has an order of
its own that no cut of rows or columns changes. Rows are read where they are; columns that do not fill a vector are
copied to where zeros follow them. Between blocks no Python runs: it would find its own data gone from the cache, and
take as long as the block.
"""

import math

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .._core.jit import jit, jit_reassociating
from .._core.llvm import VECTOR_BYTES, WIDE, multiply_add, shuffled, spread
from .._core.threads import launch
from ._kernels import LEAST_PIVOT, LOST

_TILES = {4: 4, 2: 8, 1: 8} if WIDE else {2: 4, 1: 8}  # directions: rows that are multiplied together
_PANELS = {8: 2, 4: 4, 2: 8, 1: 8} if WIDE else {4: 2, 2: 4, 1: 4}  # directions: vectors of a row, added together
_ROWS = 8  # whole tiles of rows; the last row is repeated until there are
_VECTORS = 8  # of a share of columns; whole panels
_BATCH = 32  # rows over which a panel is added up while others wait
_CHUNK = 2**14  # bytes of a row whose products are formed before those of the next are begun

# --- vectors ------------------------------------------------------------------------------------------

_index = ir.IntType(64)


def _const(value):
    return ir.Constant(_index, value)


def _plus(builder, base, number, unit=1):
    """Emit base + number·unit."""
    return builder.add(base, builder.mul(number, _const(unit) if isinstance(unit, int) else unit))


def _load(builder, address, kind, align):
    return builder.load(builder.inttoptr(address, kind.as_pointer()), align=align)


def _store(builder, value, address, align):
    builder.store(value, builder.inttoptr(address, value.type.as_pointer()), align=align)


def _sum(builder, vector):
    """Emit the sum over the lanes of a vector, halves added up."""
    while (half := vector.type.count // 2) >= 1:
        low, high = (shuffled(builder, vector, vector, [s + i for i in range(half)]) for s in (0, half))
        vector = builder.fadd(low, high)
    return builder.extract_element(vector, ir.Constant(ir.IntType(32), 0))


def _sums(builder, vectors):
    """Emit a vector of the sums over the lanes of each vector: a power of two of them, at most as many as lanes."""
    count = vectors[0].type.count
    unit = 1
    while unit < count:
        if len(vectors) > 1:  # lanes of x in blocks of `unit` take turns with those of y
            low = [side + start + i for start in range(0, count, 2 * unit) for side in (0, count) for i in range(unit)]
            vectors = [
                builder.fadd(shuffled(builder, x, y, low), shuffled(builder, x, y, [place + unit for place in low]))
                for x, y in zip(vectors[::2], vectors[1::2], strict=True)
            ]
        else:
            x = vectors[0]
            vectors = [builder.fadd(x, shuffled(builder, x, x, [lane ^ unit for lane in range(count)]))]
        unit *= 2
    return vectors[0]


def _function(module, name, returned, n_args, emit):
    """Return a function of 64-bit integers with this body: one, wherever it is called."""
    if name not in module.globals:
        function = ir.Function(module, ir.FunctionType(returned, [_index] * n_args), name)
        function.linkage = "internal"
        function.attributes.add("noinline")
        builder = ir.IRBuilder(function.append_basic_block())
        value = emit(builder, *function.args)
        builder.ret_void() if value is None else builder.ret(value)
    return module.globals[name]


def _lanes(dtype):
    """Return the LLVM type of a vector, its length, and the bytes of a number."""
    real = ir.FloatType() if dtype == types.float32 else ir.DoubleType()
    size = dtype.bitwidth // 8
    return ir.VectorType(real, VECTOR_BYTES // size), VECTOR_BYTES // size, size


# --- norms --------------------------------------------------------------------------------------------


@intrinsic
def _energy(typing_context, kind, address, columns):
    """Return the sum of squares, in float64, of so many numbers of the dtype of `kind` from an address on."""
    dtype = kind.dtype

    def generate(context, builder, signature, args):
        function = _function(builder.module, f"linalg_ml_energy_{dtype}", ir.DoubleType(), 2,
                             lambda builder, *args: _emit_energy(builder, dtype, *args))  # fmt: skip
        return builder.call(function, args[1:])

    return types.float64(kind, types.int64, types.int64), generate


def _emit_energy(builder, dtype, address, columns):
    _, _, size = _lanes(dtype)
    real = ir.FloatType() if size == 4 else ir.DoubleType()
    count, unrolled = VECTOR_BYTES // 8, 8
    narrow, lanes = ir.VectorType(real, count), ir.VectorType(ir.DoubleType(), count)
    sums = [cgutils.alloca_once_value(builder, ir.Constant(lanes, None)) for _ in range(unrolled)]

    def add(place, kind, into):
        value = _load(builder, place, kind, size)
        wide = lanes if kind == narrow else ir.DoubleType()
        value = builder.fpext(value, wide) if size == 4 else value
        builder.store(multiply_add(builder, value, value, builder.load(into)), into)

    step = unrolled * count
    whole = builder.udiv(columns, _const(step))
    with cgutils.for_range(builder, whole) as loop:
        start = _plus(builder, address, loop.index, step * size)
        for i, into in enumerate(sums):
            add(builder.add(start, _const(i * count * size)), narrow, into)
    start = _plus(builder, address, whole, step * size)
    rest = builder.urem(columns, _const(step))
    vectors = builder.udiv(rest, _const(count))
    with cgutils.for_range(builder, vectors) as loop:
        add(_plus(builder, start, loop.index, count * size), narrow, sums[0])
    start = _plus(builder, start, vectors, count * size)
    tail = cgutils.alloca_once_value(builder, ir.Constant(ir.DoubleType(), 0.0))
    with cgutils.for_range(builder, builder.urem(rest, _const(count))) as loop:
        add(_plus(builder, start, loop.index, size), real, tail)
    vectors = [builder.load(place) for place in sums]
    while len(vectors) > 1:
        vectors = [builder.fadd(x, y) for x, y in zip(vectors[::2], vectors[1::2], strict=True)]
    return builder.fadd(_sum(builder, vectors[0]), builder.load(tail))


@jit
def _energies(kind, address, step, columns, out, start, stop):
    for row in range(start, stop):
        out[row] = _energy(kind, address + row * step, columns)


@jit
def _energies_of(X, kind, out):
    _energies(kind, X.ctypes.data, X.strides[0], X.shape[1], out, 0, X.shape[0])


def row_energies(X):
    X = _by_rows(X)
    out = np.empty(X.shape[0])
    kind = _KINDS[X.itemsize]
    if X.size * X.itemsize < 2**22:
        _energies_of(X, kind, out)
    else:
        launch(_energies, X.shape[0], kind, X.ctypes.data, X.strides[0], X.shape[1], out, cost=0.1 * X.nbytes)
    return out


_DOUBLE = np.empty(0)
_KINDS = {4: np.empty(0, np.float32), 8: _DOUBLE}


def _by_rows(X):
    """Return an array whose rows are contiguous."""
    return X if X.strides[1] == X.itemsize or X.flags.c_contiguous else np.ascontiguousarray(X)


@intrinsic
def _subtract(typing_context, kind, address, shift, columns, out):
    """Write numbers of the dtype of `kind` minus float64 ones, rounded once; all of them lie at addresses."""
    dtype = kind.dtype

    def generate(context, builder, signature, args):
        function = _function(builder.module, f"linalg_ml_subtract_{dtype}", ir.VoidType(), 4,
                             lambda builder, *args: _emit_subtract(builder, dtype, *args))  # fmt: skip
        builder.call(function, args[1:])
        return context.get_dummy_value()

    return types.void(kind, *[types.int64] * 4), generate


def _emit_subtract(builder, dtype, address, shift, columns, out):
    size, count = dtype.bitwidth // 8, VECTOR_BYTES // 8
    real, double = ir.FloatType() if size == 4 else ir.DoubleType(), ir.DoubleType()

    def move(first, number, narrow, wide, width):
        with cgutils.for_range(builder, number) as loop:
            column = _plus(builder, first, loop.index, width)
            value = _load(builder, _plus(builder, address, column, size), narrow, size)
            value = builder.fpext(value, wide) if size == 4 else value
            value = builder.fsub(value, _load(builder, _plus(builder, shift, column, 8), wide, 8))
            value = builder.fptrunc(value, narrow) if size == 4 else value
            _store(builder, value, _plus(builder, out, column, size), size)

    whole = builder.udiv(columns, _const(count))
    move(_const(0), whole, ir.VectorType(real, count), ir.VectorType(double, count), count)
    move(builder.mul(whole, _const(count)), builder.urem(columns, _const(count)), real, double, 1)


@jit
def _shifted(X, kind, shift, out, energies):
    for row in range(X.shape[0]):
        place = out.ctypes.data + row * out.strides[0]
        _subtract(kind, X.ctypes.data + row * X.strides[0], shift.ctypes.data, X.shape[1], place)
        energies[row] = _energy(kind, place, X.shape[1])


def shifted_rows(X, shift):
    X = _by_rows(X)
    out, energies = np.empty(X.shape, X.dtype), np.empty(X.shape[0])
    _shifted(X, _KINDS[X.itemsize], np.ascontiguousarray(shift), out, energies)
    return out, energies


@jit
def _heap_swaps(energies, heap, index, first, rows, slots):
    count, slot = 0, -1
    for row in range(energies.size):
        if slot < 0:
            slot = 0
            for i in range(1, heap.size):
                if heap[i] < heap[slot] or (heap[i] == heap[slot] and index[i] > index[slot]):
                    slot = i
        if energies[row] > heap[slot]:
            heap[slot], index[slot] = energies[row], first + row
            rows[count], slots[count] = row, slot
            count, slot = count + 1, -1
    return count


def heap_swaps(energies, heap, index, first):
    heap, index = heap.copy(), index.copy()
    rows, slots = np.empty(energies.size, np.int64), np.empty(energies.size, np.int64)
    count = _heap_swaps(energies, heap, index, first, rows, slots)
    return rows[:count], slots[:count], heap, index


@jit
def _bin_sums(energies, sums, first, width):
    for i in range(energies.size):
        energy = energies[i]
        if energy > 0:
            bin = (first + i) // width
            sums[0, bin] += math.log(energy)
            sums[1, bin] += 1.0
            sums[2, bin] += energy


def bin_sums(energies, sums, first, width):
    sums = sums.copy()
    _bin_sums(energies, sums, first, width)
    return sums


# --- products of a block ------------------------------------------------------------------------------


@intrinsic
def _dots(typing_context, size, kind, rows, tails, V, step, offset, vectors, Y, y_step):
    """Add to Y the products of _ROWS rows with `size` directions, over so many vectors of columns.

    `rows` and `tails` are addresses of the addresses of the rows and of what does not fill a vector (or 0); `V` and `Y`
    are addresses, `step` and `y_step` distances of rows, `offset` the place of the first column: all in bytes.
    """
    if not isinstance(size, types.IntegerLiteral):
        return None
    n, dtype = size.literal_value, kind.dtype

    def generate(context, builder, signature, args):
        function = _function(builder.module, f"linalg_ml_dots_{n}_{dtype}", ir.VoidType(), 8,
                             lambda builder, *args: _emit_dots(builder, dtype, n, *args))  # fmt: skip
        builder.call(function, args[2:])
        return context.get_dummy_value()

    return types.void(size, kind, *[types.int64] * 8), generate


def _emit_dots(builder, dtype, n, rows, tails, V, step, offset, vectors, Y, y_step):
    lanes, _, size = _lanes(dtype)
    height = _TILES[n]
    sums = [[cgutils.alloca_once(builder, lanes) for _ in range(n)] for _ in range(height)]
    directions = [_plus(builder, V, _const(j), step) for j in range(n)]

    def add(places, at, align):
        x = [_load(builder, place, lanes, align) for place in places]
        for j, direction in enumerate(directions):
            v = _load(builder, builder.add(direction, at), lanes, VECTOR_BYTES)
            for r in range(height):
                builder.store(multiply_add(builder, x[r], v, builder.load(sums[r][j])), sums[r][j])

    with cgutils.for_range(builder, _const(_ROWS // height)) as tile:
        first = builder.mul(tile.index, _const(height))

        def table(of):
            places = [_plus(builder, of, builder.add(first, _const(r)), 8) for r in range(height)]
            return [_load(builder, place, _index, 8) for place in places]

        for place in (place for row in sums for place in row):
            builder.store(ir.Constant(lanes, None), place)
        starts = table(rows)
        with cgutils.for_range(builder, vectors) as loop:
            at = _plus(builder, offset, loop.index, VECTOR_BYTES)
            add([builder.add(start, at) for start in starts], at, size)
        with builder.if_then(builder.icmp_unsigned("!=", tails, _const(0))):
            add(table(tails), _plus(builder, offset, vectors, VECTOR_BYTES), VECTOR_BYTES)
        for r in range(height):
            totals = _sums(builder, [builder.load(place) for place in sums[r]])
            totals = shuffled(builder, totals, totals, list(range(n)))
            place = _plus(builder, Y, builder.add(first, _const(r)), y_step)
            _store(builder, builder.fadd(_load(builder, place, totals.type, size), totals), place, size)


@intrinsic
def _adds(typing_context, size, kind, rows, tails, count, first, last, W, step, Y, y_step):
    """Add to `size` rows of W, from vector `first` to before `last`, `count` rows times their entries of Y.

    Arguments as of `_dots`; what does not fill a vector comes after `last`.
    """
    if not isinstance(size, types.IntegerLiteral):
        return None
    n, dtype = size.literal_value, kind.dtype

    def generate(context, builder, signature, args):
        function = _function(builder.module, f"linalg_ml_adds_{n}_{dtype}", ir.VoidType(), 9,
                             lambda builder, *args: _emit_adds(builder, dtype, n, *args))  # fmt: skip
        builder.call(function, args[2:])
        return context.get_dummy_value()

    return types.void(size, kind, *[types.int64] * 9), generate


def _emit_adds(builder, dtype, n, rows, tails, count, first, last, W, step, Y, y_step):
    lanes, n_lanes, size = _lanes(dtype)

    def add(table, offset, column, width):
        """Emit the sums of a panel whose first vector is `column`, of what lies `offset` beyond the addresses."""
        corner = _plus(builder, W, column, VECTOR_BYTES)
        places = [
            [builder.add(_plus(builder, corner, _const(j), step), _const(c * VECTOR_BYTES)) for c in range(width)]
            for j in range(n)
        ]
        sums = [[cgutils.alloca_once(builder, lanes) for _ in row] for row in places]
        pairs = [(p, s) for row, held in zip(places, sums, strict=True) for p, s in zip(row, held, strict=True)]
        for place, held in pairs:
            builder.store(_load(builder, place, lanes, VECTOR_BYTES), held)
        with cgutils.for_range(builder, count) as loop:
            start = builder.add(_load(builder, _plus(builder, table, loop.index, 8), _index, 8), offset)
            x = [_load(builder, builder.add(start, _const(c * VECTOR_BYTES)), lanes, size) for c in range(width)]
            y = _plus(builder, Y, loop.index, y_step)
            for j in range(n):
                entry = _load(builder, builder.add(y, _const(j * size)), lanes.element, size)
                factor = spread(builder, entry, n_lanes)
                for c in range(width):
                    builder.store(multiply_add(builder, factor, x[c], builder.load(sums[j][c])), sums[j][c])
        for place, held in pairs:
            _store(builder, builder.load(held), place, VECTOR_BYTES)

    width = _PANELS[n]
    panels = builder.udiv(builder.sub(last, first), _const(width))
    with cgutils.for_range(builder, panels) as loop:
        column = _plus(builder, first, loop.index, width)
        add(rows, builder.mul(column, _const(VECTOR_BYTES)), column, width)
    rest = _plus(builder, first, panels, width)
    with cgutils.for_range(builder, builder.sub(last, rest)) as loop:
        column = builder.add(rest, loop.index)
        add(rows, builder.mul(column, _const(VECTOR_BYTES)), column, 1)
    with builder.if_then(builder.icmp_unsigned("!=", tails, _const(0))):
        add(tails, _const(0), last, 1)


@intrinsic
def _number(typing_context, kind, address):
    """Return the number at an address."""
    dtype = kind.dtype

    def generate(context, builder, signature, args):
        return _load(builder, args[1], context.get_value_type(dtype), dtype.bitwidth // 8)

    return dtype(kind, types.int64), generate


@jit
def _aligned(count, kind):
    """Return zeros whose first lies at the start of a cache line."""
    size = kind.itemsize
    memory = np.zeros(count + 64 // size, kind.dtype)
    return memory[(-memory.ctypes.data // size) % (64 // size) :]


@jit
def _padded(columns, kind):
    """Return a length of rows of whole vectors, an odd number: rows that are read together then share no set."""
    lanes = VECTOR_BYTES // kind.itemsize
    return ((columns + lanes - 1) // lanes // 2 * 2 + 1) * lanes


@jit
def _dot_rows(kind, rows, tails, columns, V, step, size, Y, y_step, start, stop):
    """Form the products of _ROWS times start … stop - 1 rows with all directions."""
    one = kind.itemsize
    whole = columns * one // VECTOR_BYTES
    for first in range(0, max(whole, 1), _CHUNK // VECTOR_BYTES):
        vectors = min(_CHUNK // VECTOR_BYTES, whole - first)
        rest = first + vectors == whole and whole * VECTOR_BYTES < columns * one
        for row in range(start * _ROWS, stop * _ROWS, _ROWS):
            x, tail = rows.ctypes.data + 8 * row, (tails.ctypes.data + 8 * row) * rest
            j = 0
            while j < size:
                v, y = V.ctypes.data + j * step, Y.ctypes.data + row * y_step + j * one
                if WIDE and size - j >= 4:
                    _dots(4, kind, x, tail, v, step, first * VECTOR_BYTES, vectors, y, y_step)
                    j += 4
                elif size - j >= 2:
                    _dots(2, kind, x, tail, v, step, first * VECTOR_BYTES, vectors, y, y_step)
                    j += 2
                else:
                    _dots(1, kind, x, tail, v, step, first * VECTOR_BYTES, vectors, y, y_step)
                    j += 1


@jit
def _add_columns(kind, rows, tails, columns, count, W, step, size, Y, y_step, start, stop):
    """Form the products of all rows, _VECTORS times start … stop - 1 vectors of them."""
    one = kind.itemsize
    whole = columns * one // VECTOR_BYTES
    first, last = min(start * _VECTORS, whole), min(stop * _VECTORS, whole)
    rest = stop * _VECTORS > whole and whole * VECTOR_BYTES < columns * one
    for row in range(0, count, _BATCH):
        many = min(_BATCH, count - row)
        x, tail = rows.ctypes.data + 8 * row, (tails.ctypes.data + 8 * row) * rest
        j = 0
        while j < size:
            w, y = W.ctypes.data + j * step, Y.ctypes.data + row * y_step + j * one
            if WIDE and size - j >= 8:
                _adds(8, kind, x, tail, many, first, last, w, step, y, y_step)
                j += 8
            elif size - j >= 4:
                _adds(4, kind, x, tail, many, first, last, w, step, y, y_step)
                j += 4
            elif size - j >= 2:
                _adds(2, kind, x, tail, many, first, last, w, step, y, y_step)
                j += 2
            else:
                _adds(1, kind, x, tail, many, first, last, w, step, y, y_step)
                j += 1


@jit
def _addresses(address, stride, n_rows):
    """Return the addresses of rows, the last repeated until they fill tiles."""
    rows = np.empty((n_rows + _ROWS - 1) // _ROWS * _ROWS, np.int64)
    for row in range(rows.size):
        rows[row] = address + min(row, n_rows - 1) * stride
    return rows


@jit
def _patched(address, stride, n_rows, patch_address, patch_stride, places):
    """Return addresses of rows of which some are others."""
    rows = _addresses(address, stride, n_rows)
    for p in range(places.size):
        rows[places[p]] = patch_address + p * patch_stride
    return rows


@jit
def _prepare(rows, n_rows, columns, V, weights, kind):
    """Return addresses of copies of the rows' last columns, these copies, directions, and room for results."""
    one = kind.itemsize
    lanes = VECTOR_BYTES // one
    size, more = V.shape[0], weights.shape[0]
    last = _aligned(rows.size * lanes, kind)
    tails = np.empty(rows.size, np.int64)
    whole = columns // lanes * lanes
    for row in range(rows.size):
        tails[row] = last.ctypes.data + row * VECTOR_BYTES
        if row < n_rows:
            for c in range(columns - whole):
                last[row * lanes + c] = _number(kind, rows[row] + (whole + c) * one)
    step = _padded(columns, kind)
    narrow = _aligned(size * step, kind)
    for j in range(size):
        narrow[j * step : j * step + columns] = V[j]
    Y = np.zeros((rows.size, size + more), kind.dtype)
    for j in range(more):
        for row in range(n_rows):
            Y[row, size + j] = weights[j, row]
    return tails, last, narrow, step, Y, _aligned((size + more) * step, kind)


@jit
def _finish(n_rows, W, step, Y, gram, products, sums):
    size, columns = products.shape
    gram[:] = 0
    for row in range(n_rows):
        for i in range(size):
            y = np.float64(Y[row, i])
            for j in range(i + 1):
                gram[i, j] += y * np.float64(Y[row, j])
    for i in range(size):
        for j in range(i):
            gram[j, i] = gram[i, j]
        products[i] = W[i * step : i * step + columns]
    for j in range(sums.shape[0]):
        sums[j] = W[(size + j) * step : (size + j) * step + columns]


@jit
def _products(rows, n_rows, columns, V, weights, kind, gram, products, sums):
    size, wide = V.shape[0], V.shape[0] + weights.shape[0]
    tails, last, narrow, step, Y, W = _prepare(rows, n_rows, columns, V, weights, kind)
    one = kind.itemsize
    _dot_rows(kind, rows, tails, columns, narrow, step * one, size, Y, wide * one, 0, rows.size // _ROWS)
    shares = columns * one // VECTOR_BYTES // _VECTORS + 1
    _add_columns(kind, rows, tails, columns, n_rows, W, step * one, wide, Y, wide * one, 0, shares)
    _finish(n_rows, W, step, Y, gram, products, sums)
    return last.size  # alive until here: its addresses were in use


@jit
def _products_of(X, places, patch, V, weights, kind, gram, products, sums):
    rows = _patched(X.ctypes.data, X.strides[0], X.shape[0], patch.ctypes.data, patch.strides[0], places)
    _products(rows, X.shape[0], X.shape[1], V, weights, kind, gram, products, sums)


def block_products(X, V, weights, places, patch):
    X, patch = _by_rows(X), _by_rows(patch)
    (n_rows, columns), size, more = X.shape, V.shape[0], weights.shape[0]
    kind, V, weights = _KINDS[X.itemsize], np.ascontiguousarray(V), np.ascontiguousarray(weights)
    gram, products, sums = np.zeros((size, size)), np.zeros((size, columns)), np.zeros((more, columns))
    work = 0.02 * n_rows * columns * X.itemsize * (size + more)  # ns
    if not n_rows:
        pass
    elif work < 1e6:
        _products_of(X, places, patch, V, weights, kind, gram, products, sums)
    else:
        one, wide = X.itemsize, size + more
        rows = _patched(X.ctypes.data, X.strides[0], n_rows, patch.ctypes.data, patch.strides[0], places)
        tails, last, narrow, step, Y, W = _prepare(rows, n_rows, columns, V, weights, kind)
        launch(_dot_rows, rows.size // _ROWS, kind, rows, tails, columns, narrow, step * one, size, Y, wide * one,
               cost=work)  # fmt: skip
        shares = columns * one // VECTOR_BYTES // _VECTORS + 1
        launch(_add_columns, shares, kind, rows, tails, columns, n_rows, W, step * one, wide, Y, wide * one, cost=work)
        _finish(n_rows, W, step, Y, gram, products, sums)
        del last  # alive until here: its addresses were in use
    return gram, products, sums


# --- a step -------------------------------------------------------------------------------------------


@jit_reassociating
def _dot(x, y):
    total = 0.0
    for c in range(x.size):
        total += x[c] * y[c]
    return total


@jit
def _add(row, factor, other):
    for c in range(row.size):
        row[c] += factor * other[c]


@jit
def _gram(W, step, rows, G):
    """Fill G with the Gram matrix of rows of W, `step` numbers apart, all of them whole vectors."""
    size = G.shape[0]
    Y = np.zeros((rows.size, size))
    _dot_rows(_DOUBLE, rows, rows, step, W, 8 * step, size, Y, 8 * size, 0, rows.size // _ROWS)
    for i in range(size):
        for j in range(i + 1):
            G[i, j] = G[j, i] = Y[i, j]


@jit
def _combine(T, rows, out, step):
    """Write T times rows to `out`."""
    size = T.shape[0]
    Y = T.T.copy()
    out[:] = 0
    shares = 8 * step // VECTOR_BYTES // _VECTORS + 1
    _add_columns(_DOUBLE, rows, rows, step, size, out, 8 * step, size, Y, 8 * size, 0, shares)


@jit
def _table(W, size, step):
    """Return the addresses of rows, the last repeated until they fill tiles."""
    rows = np.empty((size + _ROWS - 1) // _ROWS * _ROWS, np.int64)
    for j in range(rows.size):
        rows[j] = W.ctypes.data + 8 * step * min(j, size - 1)
    return rows


@jit
def _eigen(A, U):
    """Fill U with eigenvectors as rows, largest eigenvalue first, and the diagonal of A with these; by Jacobi."""
    n = A.shape[0]
    U[:] = 0
    for i in range(n):
        U[i, i] = 1.0
    for _ in range(40):
        turned = False
        for p in range(n - 1):
            for q in range(p + 1, n):
                if A[p, q] * A[p, q] > 1e-34 * abs(A[p, p] * A[q, q]):
                    turned = True
                    _rotate(A, U, p, q)
        if not turned:
            break
    for i in range(n):
        top = i
        for j in range(i + 1, n):
            if A[j, j] > A[top, top]:
                top = j
        if top != i:
            A[i, i], A[top, top] = A[top, top], A[i, i]
            for k in range(n):
                U[i, k], U[top, k] = U[top, k], U[i, k]
        longest = 0
        for k in range(n):
            if abs(U[i, k]) > abs(U[i, longest]):
                longest = k
        if U[i, longest] < 0:
            for k in range(n):
                U[i, k] = -U[i, k]


@jit
def _rotate(A, U, p, q):
    n = A.shape[0]
    theta = (A[q, q] - A[p, p]) / (2 * A[p, q])
    t = 1.0 / (abs(theta) + math.hypot(theta, 1.0))
    t = -t if theta < 0 else t
    c = 1 / math.sqrt(t * t + 1)
    s = t * c
    A[p, p] -= t * A[p, q]
    A[q, q] += t * A[p, q]
    A[p, q] = A[q, p] = 0.0
    for k in range(n):
        if k != p and k != q:
            x, y = A[k, p], A[k, q]
            A[k, p] = A[p, k] = c * x - s * y
            A[k, q] = A[q, k] = s * x + c * y
        x, y = U[p, k], U[q, k]
        U[p, k] = c * x - s * y
        U[q, k] = s * x + c * y


@jit
def _factor(G, T):
    """Fill T with the matrix that makes rows with Gram matrix G orthonormal, in order; tell whether that is safe."""
    n = G.shape[0]
    least, most = np.inf, 0.0
    for i in range(n):
        least, most = min(least, math.sqrt(G[i, i])), max(most, math.sqrt(G[i, i]))
    if not least > LOST * most:
        return False
    L = np.zeros((n, n))
    for i in range(n):
        for j in range(i + 1):
            total = G[i, j] / math.sqrt(G[i, i]) / math.sqrt(G[j, j])
            for k in range(j):
                total -= L[i, k] * L[j, k]
            if i == j:
                if not total >= LEAST_PIVOT * LEAST_PIVOT:
                    return False
                L[i, i] = math.sqrt(total)
            else:
                L[i, j] = total / L[j, j]
    T[:] = 0
    for i in range(n):
        T[i, i] = 1.0
        for j in range(i):
            for k in range(j + 1):
                T[i, k] -= L[i, j] * T[j, k]
        for k in range(i + 1):
            T[i, k] /= L[i, i]
    for j in range(n):
        root = math.sqrt(G[j, j])
        for i in range(n):
            T[i, j] /= root
    return True


@jit
def _clear(row, V, count):
    """Take from a row what lies along the first rows of V, twice; return its length."""
    for _ in range(2):
        for j in range(count):
            _add(row, -_dot(row, V[j]), V[j])
    return math.sqrt(_dot(row, row))


@jit
def _orthonormal(W, size, step, other, spare, V, lost):
    """As `orthonormal_rows`, of rows of W, `step` numbers apart; `other` is as large, and both are overwritten."""
    d = V.shape[1]
    G, T = np.empty((size, size)), np.empty((size, size))
    rows = _table(W, size, step)
    _gram(W, step, rows, G)
    if _factor(G, T):
        _combine(T, rows, other, step)
        rows = _table(other, size, step)
        _gram(other, step, rows, G)
        if _factor(G, T):
            _combine(T, rows, W, step)
            for j in range(size):
                V[j] = W[j * step : j * step + d]
            return
    longest = 0.0
    for j in range(size):
        V[j] = W[j * step : j * step + d]
        longest = max(longest, math.sqrt(_dot(V[j], V[j])))
    used = 0
    for j in range(size):
        length = _clear(V[j], V, j)
        if not length > LOST * longest:
            lost[j] = True
            if used == spare.shape[0]:
                V[j:] = 0
                return
            V[j] = spare[used]
            length = _clear(V[j], V, j)
            used += 1
        for c in range(d):
            V[j, c] /= length


@jit
def _orthonormal_of(W, spare, V, lost):
    size, step = W.shape[0], _padded(W.shape[1], _DOUBLE)
    flat, other = _aligned(size * step, _DOUBLE), _aligned(size * step, _DOUBLE)
    for j in range(size):
        flat[j * step : j * step + W.shape[1]] = W[j]
    _orthonormal(flat, size, step, other, spare, V, lost)


def orthonormal_rows(W, spare):
    V, lost = np.empty(W.shape), np.zeros(W.shape[0], np.bool_)
    _orthonormal_of(np.ascontiguousarray(W), np.ascontiguousarray(spare), V, lost)
    return V, lost


@jit
def _advance(
    V, S, gram, products, energies, mean, weight, own_mean, own_weight, energy, spread, spare, out, w, lost, fact
):
    """Fill out, w and lost, move the mean, and fill `fact`; see the reference."""
    size, d = V.shape
    step = _padded(d, _DOUBLE)
    M, W = _aligned(size * step, _DOUBLE), _aligned(size * step, _DOUBLE)
    A, U, seen = gram.copy(), np.empty((size, size)), np.empty(size)
    own, square = 0.0, 0.0
    for i in range(energies.size):
        own += energies[i]
        square += energies[i] * energies[i]
    energy += own
    for j in range(size):
        M[j * step : j * step + d] = products[j]
    if mean.size:
        share = weight / (weight + own_weight) if weight + own_weight > 0 else 1.0
        jump = mean - own_mean
        energy += own_weight * (share * _dot(jump, jump) - _dot(own_mean, own_mean))
        _add(mean, share - 1, jump)
        for turn in range(2):
            row, factor = (own_mean, -own_weight) if turn == 0 else (jump, own_weight * share)
            for j in range(size):
                seen[j] = _dot(V[j], row)
            for j in range(size):
                part = factor * seen[j]
                for k in range(size):
                    A[j, k] += part * seen[k]
                _add(M[j * step : j * step + d], part, row)
    for j in range(size):
        A[j, j] += S[j]
    _eigen(A, U)
    total = 0.0
    for j in range(size):
        w[j] = max(A[j, j], 0.0)
        total += w[j]
    tau = max(0.0, (energy - total) / (d - size)) if d > size else 0.0
    tail = max(tau, min(spread * tau, w[size - 1]))
    for j in range(size):
        _add(M[j * step : j * step + d], max(S[j] - tail, 0.0), V[j])
    _combine(U, _table(M, size, step), W, step)
    _orthonormal(W, size, step, M, spare, out, lost)
    for j in range(size):
        if lost[j]:
            w[j] = min(w[j], tau)
    fact[0], fact[1], fact[2] = energy, own, square


def advance(V, S, gram, products, energies, mean, weight, own_mean, own_weight, energy, spread, spare):
    out, w, lost, fact = np.empty(V.shape), np.empty(V.shape[0]), np.zeros(V.shape[0], np.bool_), np.empty(3)
    V, products, spare, own_mean = (np.ascontiguousarray(A) for A in (V, products, spare, own_mean))
    mean = mean.copy()
    _advance(
        V, S, gram, products, energies, mean, float(weight), own_mean, float(own_weight), float(energy), float(spread),
        spare, out, w, lost, fact,
    )  # fmt: skip
    return out, w, lost, mean, fact


@jit
def _take_blocks(
    X,
    shift,
    heavy,
    heap,
    index,
    first,
    block,
    V,
    S,
    mean,
    weight,
    energy,
    spread,
    limit,
    kind,
    energies,
    fresh,
    changed,
    facts,
):
    """Write to all arrays but X, shift and heavy; return how many blocks were taken. See the reference."""
    size, d = V.shape
    more = 1 if mean.size else 0
    moved = np.empty((block if shift.size else 0, d), kind.dtype)
    light, left = np.empty(block), np.empty(heap.size)
    new_heap, new_index, row_of = heap.copy(), index.copy(), np.empty(heap.size, np.int64)
    stored = np.empty(heap.size, np.int64)
    for slot in range(heap.size):
        stored[slot] = heavy.ctypes.data + slot * heavy.strides[0]
    places, slots = np.empty(block, np.int64), np.empty(block, np.int64)
    gram, products, sums = np.empty((size, size)), np.empty((size, d)), np.empty((more, d))
    weights, own, new_mean = np.ones((more, block)), np.empty(mean.size), mean.copy()
    out, w, lost, none = np.empty((size, d)), np.empty(size), np.empty(size, np.bool_), np.empty((0, d))
    taken = 0
    for start in range(0, X.shape[0] - block + 1, block):
        part = energies[start : start + block]
        if shift.size:
            _shifted(X[start : start + block], kind, shift, moved, part)
            address, stride = moved.ctypes.data, moved.strides[0]
        else:
            address, stride = X.ctypes.data + start * X.strides[0], X.strides[0]
            _energies(kind, address, stride, d, part, 0, block)
        fine = True
        for row in range(block):
            fine &= part[row] <= limit
            light[row] = part[row]
        if not fine:
            break
        rows = _addresses(address, stride, block)
        swaps = 0
        if heap.size:
            new_heap[:], new_index[:], left[:] = heap, index, heap
            row_of[:] = -1
            swaps = _heap_swaps(part, new_heap, new_index, first + start, places, slots)
        for p in range(swaps):
            row, slot = places[p], slots[p]
            at = row_of[slot]
            rows[row] = stored[slot] if at < 0 else address + at * stride
            light[row], left[slot] = left[slot], part[row]
            row_of[slot] = row
        _products(rows, block, d, V, weights, kind, gram, products, sums)
        for c in range(mean.size):
            own[c] = sums[0, c] / block
        lost[:] = False
        new_mean[:] = mean
        _advance(V, S, gram, products, light, new_mean, weight, own, float(block), energy, spread, none, out, w, lost,
                 facts[taken])  # fmt: skip
        if lost.any():
            break
        V[:], S[:], mean[:] = out, w, new_mean
        heap[:], index[:] = new_heap, new_index
        for slot in range(heap.size if swaps else 0):
            if row_of[slot] >= 0:
                changed[slot] = True
                stored[slot] = fresh.ctypes.data + slot * fresh.strides[0]
                for c in range(d):
                    fresh[slot, c] = _number(kind, address + row_of[slot] * stride + c * kind.itemsize)
        energy = facts[taken, 0]
        weight += block
        taken += 1
    return taken


def take_blocks(X, shift, heavy, heap, index, first, block, V, S, mean, weight, energy, spread, limit):
    X, heavy, shift = _by_rows(X), _by_rows(heavy), np.ascontiguousarray(shift)
    heap, index, V, S, mean = (A.copy() for A in (heap, index, V, S, mean))
    energies, fresh, changed = np.empty(X.shape[0]), np.empty(heavy.shape, X.dtype), np.zeros(heap.size, np.bool_)
    facts = np.empty((X.shape[0] // block + 1, 3))
    taken = _take_blocks(
        X, shift, heavy, heap, index, first, block, V, S, mean, float(weight), float(energy), float(spread),
        float(limit), _KINDS[X.itemsize], energies, fresh, changed, facts,
    )  # fmt: skip
    slots = np.flatnonzero(changed)
    return taken, energies[: taken * block], slots, fresh[slots], heap, index, V, S, mean, facts[:taken]


# --- rows one after the other -------------------------------------------------------------------------


@jit
def _oja_steps(X, V, rates, growth, seen):
    for i in range(X.shape[0]):
        energy = _dot(X[i], X[i])
        for g in range(rates.size):
            s, rate = _dot(V[g], X[i]), rates[g]
            square = s * s
            norm = 1 + 2 * rate * square + rate * rate * square * energy
            inverse = 1 / math.sqrt(norm)
            step = rate * s * inverse
            for c in range(X.shape[1]):
                V[g, c] = V[g, c] * inverse + step * X[i, c]
            growth[g] += math.log(norm) / 2
            seen[g] += square


def oja_steps(X, V, rates, growth, seen):
    V, growth, seen = V.copy(), growth.copy(), seen.copy()
    _oja_steps(np.ascontiguousarray(X), np.ascontiguousarray(V), rates, growth, seen)
    return V, growth, seen
