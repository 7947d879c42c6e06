"""Rows about their mean, for algorithms that take one row after the other (Ross et al. 2008)."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from .._core.arrays import Array, cast, is_sparse, like, namespace
from ._blocks import Block

_FEW = 16  # sparse rows made dense at a time


@dataclass
class Centring:
    """Weight and mean of the rows so far; does nothing unless `on`."""

    on: bool
    weight: float = 0.0
    mean: Any = None

    def copy(self) -> "Centring":
        """Return a copy that can go on by itself."""
        return replace(self)

    def scale(self, factor: float, root: float = 1.0) -> None:
        """Multiply all rows seen by a power of two, and the roots of their weights by another."""
        self.weight *= root**2
        if self.mean is not None:
            self.mean = self.mean * factor

    def rows(self, block: Block) -> Iterator[Array]:
        """Yield dense rows whose Gram matrices add up to that of all rows about their mean."""
        weight = block.weight
        jump = None
        if self.on and weight:
            own = block.mean()
            jump = self._step(weight, own)
        step = _FEW if is_sparse(block.rows) else block.n_rows
        for start in range(0, block.n_rows, step):
            part = block.part(start, min(start + step, block.n_rows))
            rows = part.dense()
            if self.on and weight:
                rows = cast(rows, "float64")
                rows = rows - like(part.roots, rows)[:, None] * own
            yield rows
        if jump is not None:
            yield jump

    def _step(self, weight: float, own: Array) -> Array | None:
        """Move the mean, and return the row that stands for the distance of the means."""
        if self.mean is None:
            self.weight, self.mean = weight, own
            return None
        share = self.weight / (self.weight + weight)
        jump = self.mean - own
        self.weight, self.mean = self.weight + weight, self.mean - (1 - share) * jump
        return (share * weight) ** 0.5 * jump[None, :]

    def merge(self, other: "Centring") -> Iterator[Array]:
        """Take in the mean of another stream, and yield the row that stands for the distance."""
        if self.on and other.mean is not None:
            row = self._step(other.weight, namespace(other.mean).asarray(other.mean))
            if row is not None:
                yield row
