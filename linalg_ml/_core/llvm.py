"""Vectors in LLVM's terms, for the intrinsics of CPU kernels. Imported by `_kernels_numba.py` files alone.

The kernels' disk cache does not see edits here: remove it after one.
"""

from llvmlite import binding, ir

WIDE = binding.get_host_cpu_features().get("avx512f", False)
VECTOR_BYTES = 64 if WIDE else 32


def multiply_add(builder, a, b, c):
    """Emit a·b + c, fused where the machine can."""
    return builder.fadd(builder.fmul(a, b, flags=("contract",)), c, flags=("contract",))


def shuffled(builder, x, y, places):
    """Emit the vector of lanes `places` of x and y, those of y counted on."""
    mask = ir.Constant(ir.VectorType(ir.IntType(32), len(places)), places)
    return builder.shuffle_vector(x, y, mask)


def spread(builder, scalar, count):
    """Emit a vector whose lanes all are `scalar`."""
    kind = ir.VectorType(scalar.type, count)
    first = builder.insert_element(ir.Constant(kind, ir.Undefined), scalar, ir.Constant(ir.IntType(32), 0))
    return shuffled(builder, first, ir.Constant(kind, ir.Undefined), [0] * count)
