"""Blocks of light rows, dense or sparse, as the algorithms multiply them."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .._core.arrays import Array, cast, is_sparse, like, namespace, to_numpy
from .._core.rows import stacked
from ._kernels import block_products, row_energies

LARGE = 2.0**80  # squared norm of float32 rows
_NOWHERE = np.empty(0, np.int64)


@dataclass
class Block:
    """Rows √w·2^e·(a - c), ready to be multiplied; of sparse rows the shift c is kept apart and never subtracted.

    Never written to. Dense rows may be given as an array and a `patch`, the rows that stand at some `places` of it.
    """

    rows: Any  # (b, d), dense, or CSR without the shift
    energies: np.ndarray  # (b,), squared norms, shift and weights in them
    roots: np.ndarray  # (b,), square roots of the weights
    shift: Array | None = None  # (d,), of sparse rows alone, in the scale of the rows
    places: np.ndarray | None = None
    patch: Array | None = None

    @property
    def n_rows(self) -> int:
        return self.energies.size

    @property
    def weight(self) -> float:
        return float(np.dot(self.roots, self.roots))

    def part(self, start: int, stop: int) -> "Block":
        """Return some of the rows, as a view."""
        return Block(self.rows[start:stop, :], self.energies[start:stop], self.roots[start:stop], self.shift)

    def patched(self, places: np.ndarray, patch: "Block") -> "Block":
        """Return dense rows of which some are others; nothing is copied but their energies."""
        energies, roots = self.energies.copy(), self.roots.copy()
        energies[places], roots[places] = patch.energies, patch.roots
        return Block(self.rows, energies, roots, None, places, patch.rows)

    def whole(self) -> "Block":
        """Return all rows as one array."""
        if self.places is None:
            return self
        xp, source = namespace(self.rows), np.arange(self.n_rows)
        source[self.places] = self.n_rows + np.arange(self.places.size)
        rows = xp.take(xp.concat([self.rows, self.patch], axis=0), like(source, self.rows), axis=0)
        return Block(rows, self.energies, self.roots)

    def dense(self) -> Array:
        """Return the rows as a dense array, in their dtype."""
        if not is_csr(self.rows):
            return self.rows
        rows = self.rows.toarray()
        return rows if self.shift is None else rows - self.roots[:, None].astype(rows.dtype) * self.shift

    def times(self, V: Array) -> Array:
        """Return X Vᵀ (b, l), in the dtype of the rows."""
        if not is_csr(self.rows):
            return namespace(V).matmul(self.rows, namespace(V).matrix_transpose(cast(V, _name(self.rows))))
        Y = self.rows @ cast(V, _name(self.rows)).T
        return Y if self.shift is None else Y - np.outer(self.roots, V @ self.shift)

    def transposed_times(self, Y: Array) -> Array:
        """Return YᵀX (l, d), in float64."""
        if not is_csr(self.rows):
            return cast(namespace(Y).matmul(namespace(Y).matrix_transpose(Y), self.rows), "float64")
        product = (self.rows.T @ Y).T.astype(np.float64)
        return product if self.shift is None else product - np.outer(Y.T @ self.roots, self.shift)

    def products(self, V: Array, mean: bool) -> tuple[np.ndarray, Array, Array | None]:
        """Return YᵀY (l, l) on the host and YᵀX (l, d) for Y = X Vᵀ, and the `mean` if that is asked for."""
        if not is_csr(self.rows):
            weights = self.roots[None, :] if mean else self.roots[None, :][:0, :]
            places = _NOWHERE if self.places is None else self.places
            patch = self.rows[:0, :] if self.patch is None else self.patch
            gram, products, sums = block_products(self.rows, V, weights, places, patch)
            return gram, products, sums[0, :] / (self.weight or 1.0) if mean else None
        Y = self.times(V)
        return (Y.T @ Y).astype(np.float64), self.transposed_times(Y), self.mean() if mean else None

    def gram(self) -> Array:
        """Return XXᵀ (b, b), in float64."""
        if not is_csr(self.rows):
            X = cast(self.rows, "float64")
            return namespace(X).matmul(X, namespace(X).matrix_transpose(X))
        X = self.rows.astype(np.float64)
        gram = (X @ X.T).toarray()
        if self.shift is None:
            return gram
        seen = X @ self.shift
        cross = np.outer(seen, self.roots)
        return gram - cross - cross.T + np.outer(self.roots, self.roots) * float(self.shift @ self.shift)

    def mean(self) -> Array:
        """Return the weighted mean of a - c, (d,), in float64; of no meaning, but finite, where weights are zero."""
        weight = self.weight or 1.0
        if not is_csr(self.rows):
            xp = namespace(self.rows)
            return cast(xp.matmul(like(self.roots, self.rows, _name(self.rows)), self.rows), "float64") / weight
        mean = np.asarray(self.rows.T @ self.roots, np.float64) / weight
        return mean if self.shift is None else mean - self.shift

    def copied(self) -> "Block":
        """Return a block that the caller's array cannot change."""
        own = isinstance(self.rows, np.ndarray) or is_csr(self.rows)
        rows = self.rows.copy() if own else namespace(self.rows).asarray(self.rows, copy=True)
        return Block(rows, self.energies.copy(), self.roots.copy(), self.shift)

    def widened(self) -> "Block":
        """Return rows that are safe to multiply: float32 ones of which products could overflow, as float64."""
        block = self.whole()
        return block if block.safe() else replace(block, rows=cast(block.rows, "float64"))

    def safe(self) -> bool:
        """Tell whether products of three rows are numbers of their dtype."""
        wide = self.rows.dtype.itemsize == 8 if isinstance(self.rows, np.ndarray) else _name(self.rows) != "float32"
        return wide or not self.n_rows or float(self.energies.max()) <= LARGE

    def scaled(self, factor: float, root: float = 1.0) -> "Block":
        """Return the rows times a power of two, and the roots of their weights times another."""
        shift, both = None if self.shift is None else self.shift * factor, factor * root
        return replace(
            self, rows=self.rows * both, energies=self.energies * both**2, roots=self.roots * root, shift=shift
        )

    @property
    def like(self) -> Array:
        """An array of the library and on the device in which dense results live."""
        return self.energies if is_csr(self.rows) else self.rows


def weighed(rows: Any, roots: np.ndarray, shift: Array | None = None) -> Block:
    """Return rows √w·a, of sparse ones with the shift of a apart, as a block with their energies."""
    if not is_csr(rows):
        return Block(rows, row_energies(rows), roots)
    wide = rows.astype(np.float64)
    energies = np.asarray(wide.multiply(wide).sum(axis=1), np.float64).ravel()
    if shift is not None:
        energies = np.maximum(energies - 2 * roots * (wide @ shift) + roots**2 * float(shift @ shift), 0.0)
    return Block(rows, energies, roots, shift)


def joined(blocks: list[Block]) -> Block:
    """Return one block of all rows."""
    if len(blocks) == 1:
        return blocks[0]
    rows = stacked([block.rows for block in blocks])
    energies, roots = (np.concatenate([getattr(block, name) for block in blocks]) for name in ("energies", "roots"))
    return Block(rows, energies, roots, blocks[0].shift)


def is_csr(A: Any) -> bool:
    """As `is_sparse`, and faster for NumPy's arrays."""
    return not isinstance(A, np.ndarray) and is_sparse(A)


def _name(A: Any) -> str:
    return str(A.dtype).rpartition(".")[2]


def to_host(A: Array) -> np.ndarray:
    return to_numpy(A).astype(np.float64, copy=False)
