"""How a matrix is cut into slices.

Row l*J + j and column k*q + i of A belong to entry (l, i) of slice (k, j): rows of one slice are J apart, its columns
lie side by side. Everything of this wing uses this one convention.
"""

import math
import operator
from typing import Any, NamedTuple

from .._core.arrays import Array, check_int, namespace


class Layout(NamedTuple):
    """K*J slices, each p × q, of an m × n matrix; p*J ≥ m and q*K ≥ n, the rest counts as zeros."""

    m: int
    n: int
    J: int
    K: int
    p: int
    q: int

    @property
    def nblocks(self) -> tuple[int, int]:
        return self.J, self.K

    @property
    def padded(self) -> bool:
        return (self.p * self.J, self.q * self.K) != (self.m, self.n)

    def n_parameters(self, rank: int) -> int:
        return rank * (self.p * self.J * self.K + self.q * self.K * self.J)


def layout(m: int, n: int, nblocks: Any, pad: bool) -> Layout:
    """Return the layout that `nblocks` asks for, or the one nearest to square roots."""
    if nblocks is None:
        pairs = [_nearest(m), _nearest(n)]
        pad = True
    else:
        pairs = list(_pair(nblocks))
        for count, size, what in zip(pairs, (m, n), ("rows", "columns"), strict=True):
            if count > size:
                raise ValueError(f"nblocks must be at most the number of {what}, {size}, got {count}")
            if size % count and not pad:
                raise ValueError(
                    f"nblocks must divide the shape, got {count} blocks for {size} {what}; pad=True pads with zeros"
                )
    J, K = pairs
    p, q = -(-m // J), -(-n // K)
    check_size(p * J, q * K)
    return Layout(m, n, J, K, p, q)


def check_size(*sizes: int) -> None:
    """Refuse sizes whose product no 64-bit index can hold."""
    if math.prod(sizes) >= 2**63:
        raise ValueError(f"the sizes {' × '.join(map(str, sizes))} are too large: their product must be below 2**63")


def largest_divisor(n: int, limit: int | None = None) -> int:
    """Return the largest divisor of n that is at most `limit`, by default √n."""
    bound = math.isqrt(n) if limit is None else limit
    return next(d for d in range(bound, 0, -1) if n % d == 0)


def _nearest(n: int) -> int:
    """Return the number of blocks of n rows or columns: the largest divisor ≤ √n, unless that is less than √n/2."""
    divisor = largest_divisor(n)
    return divisor if 2 * divisor >= math.sqrt(n) else round(math.sqrt(n))


def _pair(nblocks: Any) -> tuple[int, int]:
    items = tuple(nblocks) if isinstance(nblocks, list | tuple) else (nblocks, nblocks)
    if len(items) != 2:
        raise ValueError(f"nblocks must be an integer or a pair (blocks of rows, blocks of columns), got {nblocks!r}")
    for item in items:
        try:
            operator.index(item)
        except TypeError:
            raise ValueError(f"nblocks must be an integer ≥ 1 or a pair of them, got {nblocks!r}") from None
    J, K = (check_int(item, "nblocks") for item in items)
    return J, K


def check_rank(rank: Any, p: int, q: int) -> int:
    """Return `rank`, if a slice can have it."""
    try:
        operator.index(rank)
    except TypeError:
        raise ValueError(f"rank must be an integer from 1 to {min(p, q)}, got {rank!r}") from None
    return check_int(rank, "rank", 1, min(p, q), f"the slices are {p} × {q}")


def slices(A: Array, cut: Layout) -> Array:
    """Return the slices of A (…, pJ, Kq) as (…, K, J, p, q), a view."""
    xp = namespace(A)
    split = xp.reshape(A, (*A.shape[:-2], cut.p, cut.J, cut.K, cut.q))
    lead = tuple(range(split.ndim - 4))
    t = split.ndim - 4
    return xp.permute_dims(split, (*lead, t + 2, t + 1, t, t + 3))
