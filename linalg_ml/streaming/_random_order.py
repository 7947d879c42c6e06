"""Block power steps over blocks of growing size, heavy rows aside: the algorithm of the random-order theorem."""

from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np

from .._core.arrays import Array, device, like, namespace
from .._core.random import Stream, normals
from ._answer import Answer, completed, ratio, rows_answer
from ._blocks import Block, to_host
from ._heavy import Heavy, with_heavy
from ._intake import Intake
from ._subspace import orthonormal_basis

_FIRST = 64  # rows of the first three blocks


@dataclass
class RandomOrder:
    """State: directions Z, their products W with the rows of the running block, and the last complete block."""

    n_features: int
    size: int
    key: int
    center: bool
    Z: Any = None
    W: Any = None
    step: int = 0
    count: int = 0  # light rows in the running block
    block_weight: float = 0.0
    block_sum: Any = None
    last_W: Any = None
    last_H: Any = None
    last_count: int = 0
    n_light: int = 0
    energy: float = 0.0
    weight: float = 0.0
    total: Any = None  # weighted sum of light rows

    def copy(self) -> "RandomOrder":
        """Return a copy that can go on by itself: arrays are replaced, never written to."""
        return copy(self)

    @property
    def length(self) -> int:
        """Rows of the running block: three power steps for each size, for the length of the stream is not known."""
        return _FIRST << self.step // 3

    def _start(self, block: Block) -> None:
        xp = namespace(block.like)
        home = xp.astype(block.mean(), xp.float64)
        self.Z = orthonormal_basis(normals(self.key, Stream.STARTS, range(self.size), self.n_features, to=home))
        self.W = xp.zeros_like(self.Z)
        self.block_sum = self.total = xp.zeros(self.n_features, dtype=xp.float64, device=device(self.Z))

    def add(self, block: Block) -> None:
        """Take in light rows."""
        block = block.widened()
        if self.Z is None:
            self._start(block)
        at = 0
        while at < block.n_rows:
            stop = min(block.n_rows, at + self.length - self.count)
            part = block.part(at, stop)
            self.W = self.W + part.transposed_times(part.times(self.Z))
            self.count += stop - at
            self.n_light += stop - at
            self.energy += float(part.energies.sum())
            self.weight += part.weight
            self.block_weight += part.weight
            if self.center and part.weight:
                added = part.mean() * part.weight
                self.block_sum, self.total = self.block_sum + added, self.total + added
            if self.count == self.length:
                self._close()
            at = stop

    def _centred(self) -> Array:
        """Return W about the mean of the running block."""
        if not self.center or not self.block_weight:
            return self.W
        xp = namespace(self.Z)
        return self.W - xp.matmul(self.Z, self.block_sum)[:, None] * (self.block_sum / self.block_weight)

    def _products(self) -> tuple[Array, np.ndarray]:
        W = self._centred()
        xp = namespace(W)
        H = to_host(xp.matmul(W, xp.matrix_transpose(self.Z)))
        return W, (H + H.T) / 2

    def _close(self) -> None:
        self.last_W, self.last_H = self._products()
        self.last_count, self.count, self.step = self.count, 0, self.step + 1
        xp = namespace(self.last_W)
        self.Z = self._turned(orthonormal_basis(self.last_W))
        self.W = xp.zeros_like(self.W)
        self.block_weight, self.block_sum = 0.0, xp.zeros_like(self.block_sum)

    def _turned(self, basis: Array) -> Array:
        """Return the next directions: those of the products, and old ones beside them where these are too few."""
        xp, rest = namespace(basis), self.Z
        if basis.shape[0] == self.size:
            return basis
        for _ in range(2):
            rest = rest - xp.matmul(xp.matmul(rest, xp.matrix_transpose(basis)), basis)
        rest = orthonormal_basis(rest)
        return xp.concat([basis, rest[: self.size - basis.shape[0], :]], axis=0)

    def scale(self, factor: float, root: float = 1.0) -> None:
        """Multiply all rows seen by a power of two, and the roots of their weights by another."""
        if self.Z is None:
            return
        square, sums = (factor * root) ** 2, factor * root**2
        self.W, self.block_sum, self.total = self.W * square, self.block_sum * sums, self.total * sums
        self.energy *= square
        self.weight, self.block_weight = self.weight * root**2, self.block_weight * root**2
        if self.last_W is not None:
            self.last_W, self.last_H = self.last_W * square, self.last_H * square

    def answer(self, intake: Intake, k: int) -> Answer:
        """Return the leading directions of the light or of the heavy part, whichever has more energy."""
        if intake.filled:
            self.add(intake.flushed())
        kept = np.argsort(intake.heavy_index, kind="stable")
        if self.Z is None:
            made = with_heavy(None, 0.0, None, intake, kept, self.center)
            answer = rows_answer(made.rows, k)
            answer.heavy_indices, answer.energy, answer.mean = intake.heavy_index[kept], made.energy, made.mean
            return answer
        W, H, count = self.last_W, self.last_H, self.last_count
        if W is None or 2 * self.count >= self.length:
            (W, H), count = self._products(), self.count
        mean, energy = None, self.energy
        if self.center and self.weight:
            mean = self.total / self.weight
            energy -= self.weight * float(namespace(mean).sum(mean * mean))
        if kept.size:
            heavy = with_heavy(energy, self.weight, mean, intake, kept, self.center)
        else:
            heavy = Heavy(self.Z[:0, :], energy, mean)
        return self._either(W, H, count, heavy, intake.heavy_index[kept], k)

    def _either(self, W: Array, H: np.ndarray, count: int, heavy: Any, indices: np.ndarray, k: int) -> Answer:
        xp = namespace(W)
        mu, U = np.linalg.eigh(H)
        mu, U = np.maximum(mu[::-1], 0.0) * (self.n_light / count), np.ascontiguousarray(U[:, ::-1].T)
        Q, _ = xp.linalg.qr(xp.matrix_transpose(xp.matmul(like(U, W), W)))
        light = xp.matrix_transpose(Q)
        basis = orthonormal_basis(xp.concat([light, heavy.rows], axis=0))
        P = to_host(xp.matmul(light, xp.matrix_transpose(basis)))
        A = to_host(xp.matmul(heavy.rows, xp.matrix_transpose(basis)))
        w = np.linalg.eigvalsh((P.T * mu) @ P + A.T @ A)[::-1]
        gap = ratio(float(w[0]), float(w[1]) if w.size > 1 else 0.0)
        error = min(1.0, max(1e-15, (2 / gap) / (1 - 2 / gap) ** 2)) if gap > 4 else 1.0
        components, values = light, mu
        if heavy.rows.shape[0]:
            _, s, Vh = xp.linalg.svd(heavy.rows, full_matrices=False)
            energies = to_host(s) ** 2
            if energies[0] > mu[0]:
                components, values = completed(Vh, k), np.append(energies, np.zeros(k))
        values = values[:k].copy()
        values[0] = w[0]
        return Answer(
            components[:k, :], values, error, None, 3 * (2 / count) ** 0.5, gap, "random-order",
            energy=heavy.energy, mean=heavy.mean, heavy_indices=indices, tracked=basis,
        )  # fmt: skip
