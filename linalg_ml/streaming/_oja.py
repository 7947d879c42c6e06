"""Oja's rule over a grid of rates, chosen by how much each chain has grown: for streams in any order."""

import math
from copy import copy
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from .._core.arrays import Array, cast, device, namespace
from .._core.random import Stream, normals
from ._answer import Answer, ratio
from ._blocks import Block
from ._centring import Centring
from ._certified import certificate
from ._frequent import Directions
from ._intake import Intake
from ._kernels import oja_steps, row_energies

_GROWTH = 10  # times ln d: a chain that grew so has forgotten its start
_EXACT = 1024  # rows between exact normalisations


@dataclass
class Oja:
    """State: one vector and its growth for every rate 2**g of a window that slides with the energy seen."""

    n_features: int
    key: int
    centring: Centring
    sketch: Directions
    start: Any = None
    V: Any = None  # (G, d)
    low: int = 0  # g of the first chain
    growth: np.ndarray = field(default_factory=lambda: np.empty(0))
    seen: np.ndarray = field(default_factory=lambda: np.empty(0))  # Σ(v·a)² of each chain
    energy: float = 0.0
    largest: Any = None
    largest_energy: float = 0.0
    n_rows: int = 0
    exponent: int = 0  # rows seen were multiplied by 2**exponent since the start of the grid

    def copy(self) -> "Oja":
        """Return a copy that can go on by itself: arrays are replaced, never written to."""
        other = copy(self)
        other.centring, other.sketch = self.centring.copy(), self.sketch.copy()
        return other

    def add(self, block: Block) -> None:
        """Take in rows, one after the other."""
        for rows in self.centring.rows(block):
            self.sketch.add(rows)
            wide = cast(rows, "float64")
            energies = row_energies(wide)
            if energies.max() > self.largest_energy:
                longest = int(np.argmax(energies))
                self.largest = namespace(wide).asarray(wide[longest, :], copy=True)
                self.largest_energy = float(energies[longest])
            self._steps(wide, np.add.accumulate(np.append(self.energy, energies))[1:])

    def _steps(self, rows: Array, totals: np.ndarray) -> None:
        """Take steps for rows; `totals` are the energies seen with each of them."""
        at = int(np.count_nonzero(totals == 0))
        self.n_rows += at
        if at == totals.size:
            return
        if self.start is None:
            xp = namespace(rows)
            random = normals(self.key, Stream.STARTS, range(1), self.n_features, to=rows)[0, :]
            self.start = random / xp.linalg.vector_norm(random)
            self.V = xp.zeros((0, self.n_features), dtype=rows.dtype, device=device(rows))
        self.energy = float(totals[-1])
        d, seen = self.n_features, totals[at:]
        low = np.ceil(np.log2(0.1 / seen)).astype(np.int64)
        high = np.maximum(low, np.floor(np.log2(40 * d * math.log(max(d, 2)) / seen)).astype(np.int64))
        places = np.flatnonzero((np.diff(low) != 0) | (np.diff(high) != 0)) + 1  # where the window slides
        exact = np.arange(_EXACT - self.n_rows % _EXACT, seen.size, _EXACT)
        edges = [0, *np.union1d(places, exact).tolist(), seen.size]
        for start, stop in pairwise(edges):
            self._slide(int(low[start]), int(high[start]))
            eta = np.ldexp(1.0, self.low + np.arange(self.growth.size))
            part = rows[at + start : at + stop, :]
            self.V, self.growth, self.seen = oja_steps(part, self.V, eta, self.growth, self.seen)
            self.n_rows += stop - start
            if self.n_rows % _EXACT == 0:
                self.V = self.V / namespace(self.V).linalg.vector_norm(self.V, axis=1, keepdims=True)

    def _slide(self, low: int, high: int) -> None:
        """Keep the rates from 2**low to 2**high, which have moved, and cannot have overshot, for the energy seen."""
        if not self.growth.size:
            self.low = low
        xp = namespace(self.V)
        dropped = max(0, self.low + self.growth.size - 1 - high)
        added = max(0, self.low - low) if self.growth.size else high - low + 1
        if dropped or added:
            kept, added = max(0, self.growth.size - dropped), min(added, high - low + 1)
            new = xp.zeros((added, self.n_features), dtype=self.V.dtype, device=device(self.V)) + self.start
            self.V = xp.concat([new, self.V[:kept, :]], axis=0)
            self.growth = np.append(np.zeros(added), self.growth[:kept])
            self.seen = np.append(np.zeros(added), self.seen[:kept])
            self.low = low

    def scale(self, factor: float, root: float = 1.0) -> None:
        """Multiply rows and roots of weights by powers of two: the grid slides by twice as many steps."""
        self.centring.scale(factor, root)
        factor *= root
        self.low -= 2 * round(math.log2(factor))
        self.energy *= factor**2
        self.seen = self.seen * factor**2
        self.largest_energy *= factor**2
        if self.largest is not None:
            self.largest = self.largest * factor
        self.sketch.scale(factor)

    def answer(self, intake: Intake, k: int) -> Answer:
        """Return the vector of the least rate that grew enough, or the longest row."""
        if intake.filled:
            self.add(intake.flushed())
        if self.V is None:  # zeros alone
            return Answer(np.eye(1, self.n_features), np.zeros(1), 1.0, None, 0.0, 1.0, "oja", mean=self.centring.mean)
        xp = namespace(self.V)
        grown = np.flatnonzero(self.growth >= _GROWTH * math.log(max(self.n_features, 2)))
        if not grown.size or math.ldexp(self.largest_energy, int(self.low + grown[0])) >= 1:
            vector, value = self.largest, self.largest_energy
        else:
            vector, value = self.V[int(grown[0]), :], float(self.seen[grown[0]])
        vector = vector / xp.linalg.vector_norm(vector)
        components, energies = self.sketch.top(self.sketch.filled)
        delta, top = self.sketch.delta, float(energies[0])
        second = (float(energies[1]) if energies.size > 1 else 0.0) + delta
        gap = max(1.0, ratio(top, second))
        product = xp.matmul(self.sketch.used, vector)
        proved = certificate(top, second, delta, float(xp.sum(product * product)))
        guarantee = 20 * math.log(max(self.n_features, 2)) / gap
        error = min(1.0, max(1e-15, min(guarantee, proved)))
        value = min(max(value, top), top + delta)
        return Answer(
            vector[None, :], np.array([value]), error, 1.0 if proved <= min(1.0, guarantee) else None,
            min(1.0, delta / top) if top else 0.0, gap, "oja", value_bounds=(top, top + delta),
            energy=self.energy, mean=self.centring.mean, tracked=components,
        )  # fmt: skip
