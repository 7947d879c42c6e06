"""Tail-corrected streaming subspace iteration: the history of a stream as a few directions with their energies.

One block adds its rows' energy to the tracked directions, and what an untracked direction holds is taken off before the
directions turn. Without this correction the error is of first order d/n; with it, on a flat tail, of second. Where the
tail is not flat, the energy that counts is that of the directions in which chance moves the leading one: the mean by
energy, not the mean `tau`. It is found from products of different rows (`tail_spread`).
"""

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from .._core.arrays import Array, cast, device, like, namespace
from .._core.random import Stream, normals
from ._answer import Answer, ratio, rows_answer
from ._blocks import Block, is_csr, to_host
from ._heavy import Heavy, with_heavy
from ._intake import Intake
from ._kernels import advance, orthonormal_rows, tail_spread, take_blocks

_WINDOWS = 12
_LIGHT = 0.02  # of the leading energy: a stored row below it joins the light ones in the end
_FAR_LONGER = 4  # times the squared norm of a light row
_SAMPLE = 64  # rows of a block whose products tell how uneven the tail is
_OUTSIDE = 0.1  # share of the leading direction of the rows kept aside: above it, it is tracked


@dataclass
class Window:
    """A snapshot of the leading direction, and what the light rows since then weigh: Σ|x|² and Σ|x|⁴."""

    direction: Array
    energy: float = 0.0
    square: float = 0.0

    @classmethod
    def at(cls, V: Array) -> "Window":
        """Return a window that opens: a copy, since a view would keep all directions of this time alive."""
        return cls(namespace(V).asarray(V[0, :], copy=True))


@dataclass
class Subspace:
    """State: V (l, d) orthonormal rows with energies S, sums of the light rows seen; float64."""

    n_features: int
    size: int  # l
    key: int
    center: bool
    forgets: bool = False
    V: Any = None
    S: np.ndarray = field(default_factory=lambda: np.empty(0))
    energy: float = 0.0  # F, of light rows
    weight: float = 0.0  # of light rows: their number, if they are not weighted
    mean: Any = None  # of light rows, beyond the shift
    spread: float = 1.0  # of the untracked energies, as in `tail_spread`
    n_blocks: int = 0
    n_drawn: int = 0
    first_square: float = 0.0  # Q0
    windows: list[Window] = field(default_factory=list)
    merged: bool = False

    def copy(self) -> "Subspace":
        """Return a copy that can go on by itself: arrays are replaced, never written to."""
        other = copy(self)
        other.S = self.S.copy()
        other.windows = [copy(window) for window in self.windows]
        return other

    @property
    def tau(self) -> float:
        """Energy of light rows per untracked direction."""
        rest = self.n_features - self.size
        return max(0.0, (self.energy - float(self.S.sum())) / rest) if rest else 0.0

    @property
    def tail(self) -> float:
        """Energy of light rows along what a random remainder of the leading direction points to."""
        return max(self.tau, min(self.spread * self.tau, float(self.S[-1])))

    # --- a block --------------------------------------------------------------------------------------

    def add(self, block: Block) -> None:
        """Take in light rows."""
        if self.V is None:
            self._first(block.widened())
        else:
            if self.until_window == 1:
                self._measure(block.whole())
            self._next(block if block.safe() else block.widened())
        self.n_blocks += 1
        if self.n_blocks & (self.n_blocks - 1) == 0:
            self._open_window()

    def _first(self, block: Block) -> None:
        xp = namespace(block.like)
        self.weight = block.weight
        self.mean = block.mean() if self.center else xp.zeros(self.n_features, dtype=xp.float64)
        gram, roots = self._gram(block), block.roots
        self.energy = float(np.trace(gram))
        self.first_square = float(np.dot(block.energies, block.energies))
        energies, U = np.linalg.eigh(gram)
        known = min(self.size, int(np.count_nonzero(energies > 1e-14 * energies[-1])))
        leading = np.ascontiguousarray(U[:, ::-1][:, :known])
        V = block.transposed_times(like(leading, block.like, _dtype(block)))
        if self.center:
            V = V - like(leading.T @ roots, V)[:, None] * self.mean
        S = np.zeros(self.size)
        S[:known] = energies[::-1][:known]
        missing = xp.zeros((self.size - known, self.n_features), dtype=V.dtype, device=device(V))
        V = xp.concat([V, missing], axis=0)
        self.V, lost = self._reseeded(lambda spare: orthonormal_rows(V, spare), V[:0, :])
        self.S = np.where(lost, 0.0, S)

    def _gram(self, block: Block) -> np.ndarray:
        """Return XXᵀ about the mean, on the host."""
        gram = to_host(block.gram())
        if not self.center:
            return gram
        seen = to_host(block.times(self.mean[None, :]))[:, 0]
        cross = np.outer(seen, block.roots)
        square = float(namespace(self.mean).sum(self.mean * self.mean))
        return gram - cross - cross.T + np.outer(block.roots, block.roots) * square

    def _measure(self, block: Block) -> None:
        """Look how uneven the tail is, at rows that the directions do not know; earlier looks count half."""
        if self.size == self.n_features:
            return
        block = block.part(0, min(block.n_rows, _SAMPLE))
        block = replace(block, rows=cast(block.rows, "float64") if not is_csr(block.rows) else block.rows)
        seen = to_host(block.times(self.V))
        if self.center:
            seen = seen - np.outer(block.roots, to_host(namespace(self.V).matmul(self.V, self.mean)))
        found = tail_spread(self._gram(block) - seen @ seen.T, block.roots**2, self.n_features - self.size)
        if found is not None:
            self.spread = found if self.n_blocks == 1 else (self.spread + found) / 2

    def learn(self, intake: Intake) -> None:
        """Where a window opens, track the leading direction of the rows kept aside if it beats the last one.

        It may lead all rows when these are put back, and the answer then needs the light rows' energy along it.
        """
        if self.V is None or not intake.heavy or self.n_blocks & (self.n_blocks - 1):
            return
        if self.size == 1:  # the leading direction of the light rows is not given up
            return
        rows = intake.stored(np.arange(len(intake.heavy)))
        gram = to_host(rows.gram())
        if not np.linalg.norm(gram) > self.S[-1]:  # a bound on the leading energy
            return
        w, U = np.linalg.eigh(gram)
        xp = namespace(self.V)
        leading = like(np.ascontiguousarray(U[:, -1:]), rows.like, _dtype(rows))
        leading = rows.widened().transposed_times(leading)[0, :] / float(w[-1]) ** 0.5
        outside = leading - xp.matmul(xp.matmul(self.V, leading), self.V)
        share = float(xp.sum(outside * outside))
        if share > _OUTSIDE and share * float(w[-1]) > float(self.S[-1]):
            energies = np.append(self.S[:-1], min(self.S[-1], self.tau))
            others = self.V[:-1, :]
            for _ in range(2):
                outside = outside - xp.matmul(xp.matmul(others, outside), others)
            self.V = xp.concat([others, (outside / xp.linalg.vector_norm(outside))[None, :]], axis=0)
            self.S = energies

    def _next(self, block: Block) -> None:
        gram, products, own = block.products(self.V, self.center)
        V, S, weight, energy = self.V, self.S, self.weight, self.energy
        mean, own = (self.mean, own) if self.center else (V[0, :0], V[0, :0])
        self.V, self.S, _, mean, facts = self._reseeded(
            lambda spare: advance(
                V, S, gram, products, block.energies, mean, weight, own, block.weight, energy, self.spread, spare
            ), V[:0, :]
        )  # fmt: skip
        self.weight += block.weight
        if self.center:
            self.mean = mean
        self._count(facts)

    def _count(self, facts: np.ndarray) -> None:
        """Take note of the energy of all rows, and of the sums of energies and of their squares in a block."""
        self.energy, own, square = facts.tolist()
        if self.windows:
            self.windows[-1].energy += own
            self.windows[-1].square += square
        else:
            self.first_square += square

    @property
    def until_window(self) -> int:
        """Blocks that come before another window opens, the one that opens it included."""
        return (1 << self.n_blocks.bit_length()) - self.n_blocks

    def run(self, rows: Array, shift: Array | None, intake: Intake, first: int, limit: float) -> np.ndarray:
        """Take in fewer than `until_window` blocks of dense rows, and return squared norms of the rows taken."""
        none = self.V[0, :0]
        heavy = intake.stacked() if intake.heavy else rows[:0, :]
        taken, energies, slots, fresh, heap, index, V, S, mean, facts = take_blocks(
            rows, none if shift is None else shift, heavy, intake.heavy_energies, intake.heavy_index, first,
            intake.block_size, self.V, self.S, self.mean if self.center else none, self.weight, self.energy,
            self.spread, limit,
        )  # fmt: skip
        if not taken:
            return energies
        self.V, self.S, self.mean = V, S, mean if self.center else self.mean
        intake.replace(slots, fresh, heap, index)
        for fact in facts:
            self._count(fact)
        self.weight += taken * intake.block_size
        self.n_blocks += taken
        return energies

    def _reseeded(self, step: Callable[[Array], tuple], spare: Array) -> tuple:
        """Return step(spare) for as many random directions as it loses; which, comes last."""
        while True:
            made = step(spare)
            lost = next(part for part in made if isinstance(part, np.ndarray) and part.dtype == np.bool_)
            n = int(np.count_nonzero(lost))
            if n <= spare.shape[0]:
                self.n_drawn += n
                return made
            ids = range(self.n_drawn, self.n_drawn + min(2 * n, self.size))
            spare = normals(self.key, Stream.STARTS, ids, self.n_features, to=spare)

    def move(self, step: Array) -> None:
        """Express the mean about another shift, the old one minus the new one being `step`."""
        if self.mean is not None:
            self.mean = self.mean + step

    def scale(self, factor: float, root: float = 1.0) -> None:
        """Multiply all rows seen by a power of two, and the roots of their weights by another."""
        if self.V is None:
            return
        square = (factor * root) ** 2
        self.weight *= root**2
        self.S, self.energy, self.mean = self.S * square, self.energy * square, self.mean * factor
        self.first_square *= square**2
        for window in self.windows:
            window.energy, window.square = window.energy * square, window.square * square**2

    # --- the answer -----------------------------------------------------------------------------------

    def answer(self, intake: Intake, k: int) -> Answer:
        """Return the Rayleigh-Ritz answer over tracked directions and rows kept aside; changes both of them."""
        if intake.filled:
            self.add(intake.flushed())
        light, kept = intake.split(_LIGHT * float(self.S[0]) if self.V is not None else 0.0)
        for block in intake.in_blocks(light):
            self.add(block)
        indices = intake.heavy_index[kept]
        if self.V is None:
            heavy = with_heavy(None, 0.0, None, intake, kept, self.center)
            answer = rows_answer(heavy.rows, k)
        else:
            heavy = (
                with_heavy(self.energy, self.weight, self.mean if self.center else None, intake, kept, self.center)
                if kept.size
                else Heavy(self.V[:0, :], self.energy, self.mean)
            )
            answer = self._ritz(heavy.rows, k)
            answer.saturated = 0 < intake.max_heavy == kept.size and self._stand_out(intake)
        answer.energy, answer.mean, answer.heavy_indices = heavy.energy, heavy.mean, indices
        return answer

    def _stand_out(self, intake: Intake) -> bool:
        """Tell whether all stored rows are far longer than light ones; in a short stream all rows are heavy."""
        weights = np.array([float(row.roots[0]) ** 2 for row in intake.heavy])
        return bool((intake.heavy_energies > _FAR_LONGER * weights * self.energy / (self.weight or 1.0)).all())

    def _ritz(self, kept: Array, k: int) -> Answer:
        xp, tau = namespace(self.V), self.tau
        Q = orthonormal_basis(xp.concat([self.V, kept], axis=0))
        P = to_host(xp.matmul(self.V, xp.matrix_transpose(Q)))
        A = to_host(xp.matmul(kept, xp.matrix_transpose(Q)))
        known, unknown, turned = self._history()
        energies = np.maximum(self.S - tau, 0.0)
        lost = 0.0 if self.size == self.n_features else float(energies[0]) * turned  # before the direction was known
        if not self.forgets:  # what is old counts for little then
            energies[0] += lost
        w, U = np.linalg.eigh((P.T * energies) @ P + A.T @ A)
        w, U = np.maximum(w[::-1], 0.0), U[:, ::-1]
        directions = xp.matmul(like(np.ascontiguousarray(U.T), Q), Q)
        in_light = float(min(1.0, np.sum((P @ U[:, 0]) ** 2)))
        flow = 5 * (in_light * known + (1 - in_light) * unknown) * self.tail / (self.energy or 1.0)
        gap = float(w[0] - w[1]) if w.size > 1 else float(w[0])
        error = min(1.0, flow / gap**2 + in_light * self._drift(unknown) + 1e-15) if gap > 0 else 1.0
        values = w[:k] + tau
        doubt = (in_light * lost + (1 - in_light) * tau + error * gap) / values[0] if values[0] > 0 else 0.0
        second = float(w[1]) + tau if w.size > 1 else 0.0
        return Answer(
            directions[:k, :], values, error, 0.95, doubt, ratio(float(w[0]) + tau, second), "subspace",
            tail=tau, tracked=directions,
        )  # fmt: skip

    def _drift(self, square: float) -> float:
        """Bound what is left since untracked energies λ are not all as the `tail` t that is taken off.

        Along such a direction rows count a s^(a-1) times, s being their place in the stream from 0 to 1 and
        a = (S₁ - λ)/(S₁ - t), where the exact answer counts all alike. The mean square of the difference, (1-a)²/(2a-1)
        = (1-a)² ∫ s^(2a-2) ds, is the share left of what chance moves along the direction, S₁λ/(S₁ - λ)² Σ|x|⁴/F².
        The sum of λ(λ - t)² is at most Σλ · t(S_l - t), for no λ is above S_l and their mean by energy is t.
        """
        if self.size == self.n_features:
            return 0.0
        first, last, tail = float(self.S[0]), max(float(self.S[-1]), self.tail), self.tail
        if not first > last:
            return 1.0
        power = 2 * (first - last) / (first - tail) - 1
        start = 1.0 / max(self.n_blocks, 2)
        remembered = -np.log(start) if abs(power) < 1e-9 else (1 - start**power) / power
        rest = (self.n_features - self.size) * self.tau
        uneven = rest * tail * (last - tail) / ((first - last) * (first - tail)) ** 2
        return first * uneven * float(remembered) * square / (self.energy or 1.0) ** 2

    # --- windows --------------------------------------------------------------------------------------

    def _open_window(self) -> None:
        self.windows.append(Window.at(self.V))
        if len(self.windows) > _WINDOWS:
            oldest = self.windows.pop(0)
            self.first_square += oldest.square

    def turned(self, window: Window) -> float:
        """Return how much of the leading direction lay outside the one of a window."""
        return max(0.0, 1 - float(namespace(self.V).sum(window.direction * self.V[0, :])) ** 2)

    def _history(self) -> tuple[float, float, float]:
        """Return Q0 + Σ q r̄, Q0 + Σ q, and Σ f r̄ / F: how far the leading direction turned while rows arrived."""
        turned = [self.turned(window) for window in self.windows]
        mean = turned
        if not self.merged and turned:  # the windows of one stream follow each other
            mean = [(r + after) / 2 for r, after in zip(turned, [*turned[1:], 0.5 * turned[-1]], strict=True)]
        squares = [window.square for window in self.windows]
        energies = [window.energy for window in self.windows]
        known = self.first_square + float(np.dot(squares, mean))
        return known, self.first_square + sum(squares), float(np.dot(energies, mean)) / (self.energy or 1.0)


def _dtype(block: Block) -> str:
    return str(block.rows.dtype).rpartition(".")[2]


def orthonormal_basis(rows: Array) -> Array:
    """Return an orthonormal basis of the space of rows, as rows; what depends on others leaves."""
    xp = namespace(rows)
    norms = to_host(xp.linalg.vector_norm(rows, axis=1))
    scaled = rows / like(np.where(norms > 0, norms, 1.0), rows)[:, None]
    if 0 < rows.shape[0] <= rows.shape[1]:
        basis, lost = orthonormal_rows(scaled, rows[:0, :])
        if not lost.any():
            return basis
    _, s, Vh = xp.linalg.svd(scaled, full_matrices=False)
    s = to_host(s)
    return Vh[: int(np.count_nonzero(s > 1e-13 * s[0])) if s.size else 0, :]
