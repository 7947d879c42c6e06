"""Row intake: the rows of largest norm are kept aside, the others leave in blocks of exactly B rows.

This holds every heavy row whenever there are at most H of them, and needs no threshold, no ‖A‖_F and no length of the
stream. Blocks are cut by the stream and not by the caller, so results do not depend on how rows arrive.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from ._blocks import Block, is_csr, joined
from ._kernels import heap_swaps

Consumer = Callable[[Block], None]
_NOWHERE = np.empty(0, np.int64)


@dataclass
class Intake:
    """Rows kept aside, and a buffer of light rows that do not fill a block yet."""

    block_size: int
    max_heavy: int
    heavy: list[Block] = field(default_factory=list)  # of one row each
    heavy_energies: np.ndarray = field(default_factory=lambda: np.empty(0))
    heavy_index: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    waiting: list[Block] = field(default_factory=list)
    filled: int = 0

    def __post_init__(self) -> None:
        self._views: list[int] = []  # identities of the rows kept aside that are views of one array, in order
        self._own = False  # whether no copy of this object shares that array

    def __getstate__(self) -> dict[str, Any]:
        """Return what is kept; which rows are views of what, a copy in another process finds out anew."""
        return {known.name: getattr(self, known.name) for known in fields(self)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.__post_init__()

    def copy(self) -> "Intake":
        """Return a copy that can go on by itself; blocks are never changed, and so are shared."""
        self._own = False
        other = object.__new__(Intake)
        other.__dict__.update(self.__dict__)
        other.heavy, other.waiting = list(self.heavy), list(self.waiting)
        other.heavy_energies, other.heavy_index = self.heavy_energies.copy(), self.heavy_index.copy()
        return other

    def stacked(self) -> np.ndarray | None:
        """Return the rows kept aside as one array, of which they become views; None if one has a weight."""
        if self._views != [id(row) for row in self.heavy]:
            if any(row.roots[0] != 1 for row in self.heavy):
                return None
            rows, energies = np.concatenate([row.rows for row in self.heavy]), self.heavy_energies.copy()
            self._view(rows, energies)
        return self.heavy[0].rows.base

    def replace(self, slots: np.ndarray, rows: np.ndarray, energies: np.ndarray, index: np.ndarray) -> None:
        """Put rows of weight one into slots, and take over energies and places of all."""
        if slots.size:
            kept = self.stacked()
            if kept is None or not self._own:  # all anew: a single row left would keep the whole old array alive
                kept = np.concatenate([row.rows for row in self.heavy])
            kept[slots] = rows
            self._view(kept, energies)
        self.heavy_energies, self.heavy_index = energies, index

    def _view(self, rows: np.ndarray, energies: np.ndarray) -> None:
        """Let the rows kept aside be views of one array."""
        one = np.ones(1)
        self.heavy = [Block(rows[i : i + 1, :], energies[i : i + 1], one) for i in range(rows.shape[0])]
        self._views, self._own = [id(row) for row in self.heavy], True

    def scale(self, factor: float, root: float = 1.0) -> None:
        """Multiply all rows by a power of two, and the roots of their weights by another."""
        self.heavy = [row.scaled(factor, root) for row in self.heavy]
        self.waiting = [block.scaled(factor, root) for block in self.waiting]
        self.heavy_energies = self.heavy_energies * (factor * root) ** 2

    def until_full(self) -> int:
        """Return how many rows fill the heap and then a block."""
        return self.max_heavy - len(self.heavy) + self.block_size - self.filled

    def push(self, block: Block, first: int, consume: Consumer) -> None:
        """Take rows, the first of them at place `first` of the stream, and hand over every block that fills."""
        at = self._fill_heap(block, first)
        while at < block.n_rows:
            stop = min(block.n_rows, at + self.block_size - self.filled)
            part = block if stop - at == block.n_rows else block.part(at, stop)
            places, leaving = self._swapped(part, first + at)
            if stop - at == self.block_size and not (places.size and is_csr(part.rows)):  # nothing is copied
                consume(part.patched(places, joined(leaving)) if places.size else part)
            else:
                done = 0
                for row, left in zip(places.tolist(), leaving, strict=True):
                    self._put(part, done, row)
                    self._put(left, 0, 1)
                    done = row + 1
                self._put(part, done, part.n_rows)
                if self.filled == self.block_size:
                    consume(self.flushed())
            at = stop

    def _fill_heap(self, block: Block, first: int) -> int:
        """Keep the first rows of the stream, and return how many were taken."""
        count = min(self.max_heavy - len(self.heavy), block.n_rows)
        if count > 0:
            self._views = []
            self.heavy += [block.part(row, row + 1).copied() for row in range(count)]
            self.heavy_energies = np.append(self.heavy_energies, block.energies[:count])
            self.heavy_index = np.append(self.heavy_index, np.arange(first, first + count))
        return max(count, 0)

    def _swapped(self, block: Block, first: int) -> tuple[np.ndarray, list[Block]]:
        """Let rows in for the lightest ones; return their places, and what leaves then and is light from now on."""
        if not self.max_heavy or not block.energies.max() > self.heavy_energies.min():
            return _NOWHERE, []
        places, slots, self.heavy_energies, self.heavy_index = heap_swaps(
            block.energies, self.heavy_energies, self.heavy_index, first
        )
        leaving = []
        for row, slot in zip(places.tolist(), slots.tolist(), strict=True):
            leaving.append(self.heavy[slot])
            self.heavy[slot] = block.part(row, row + 1).copied()
            self._views = []
        return places, leaving

    def _put(self, block: Block, start: int, stop: int) -> None:
        """Let rows wait until a block is full."""
        if stop > start:
            self.waiting.append(block.part(start, stop).copied())
            self.filled += stop - start

    def wait(self, row: Block, consume: Consumer) -> None:
        """Let one light row wait, and hand over the block if that fills it."""
        self._put(row, 0, 1)
        if self.filled == self.block_size:
            consume(self.flushed())

    def flushed(self) -> Block:
        """Return the rows that wait, of which there must be some."""
        block, self.waiting, self.filled = joined(self.waiting), [], 0
        return block

    def stored(self, which: np.ndarray) -> Block:
        """Return rows of the heap as one block."""
        return joined([self.heavy[row] for row in which])

    def split(self, below: float) -> tuple[np.ndarray, np.ndarray]:
        """Return which stored rows have less energy than `below`, and which have not; in order of arrival."""
        order = np.argsort(self.heavy_index, kind="stable")
        light = self.heavy_energies[order] < below
        return order[light], order[~light]

    def in_blocks(self, which: np.ndarray) -> Iterator[Block]:
        """Yield stored rows in blocks."""
        for start in range(0, which.size, self.block_size):
            yield self.stored(which[start : start + self.block_size])
