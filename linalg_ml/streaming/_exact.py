"""The Gram matrix itself, where d × d numbers are affordable."""

from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np

from .._core.arrays import Array, cast, device, is_sparse, like, namespace
from ._answer import Answer, gram_answer
from ._blocks import Block, to_host
from ._intake import Intake


@dataclass
class Exact:
    """State: AᵀA of all rows, about their mean if that is asked for; float64."""

    n_features: int
    center: bool
    gram: Any = None
    weight: float = 0.0
    mean: Any = None

    def copy(self) -> "Exact":
        """Return a copy that can go on by itself: arrays are replaced, never written to."""
        return copy(self)

    def add(self, block: Block) -> None:
        """Take in rows."""
        X = block.dense() if self.center or not is_sparse(block.rows) else block.rows
        if is_sparse(X):
            gram, xp = (X.T @ X).toarray().astype(np.float64), np
        else:
            xp, X = namespace(X), cast(X, "float64")
            gram = xp.matmul(xp.matrix_transpose(X), X)
        if self.gram is None:
            self.gram = xp.zeros((self.n_features, self.n_features), dtype=xp.float64, device=device(gram))
            self.mean = xp.zeros(self.n_features, dtype=xp.float64, device=device(gram))
        if self.center:
            gram = self._about_mean(gram, block)
        self.weight += block.weight
        self.gram = self.gram + gram

    def _about_mean(self, gram: Any, block: Block) -> Any:
        weight, mean = block.weight, block.mean()
        if not weight:
            return gram
        share = self.weight / (self.weight + weight)
        jump = self.mean - mean
        self.mean = self.mean - (1 - share) * jump
        return gram + weight * (share * jump[:, None] * jump - mean[:, None] * mean)

    def move(self, step: Array) -> None:
        """Express the mean about another shift, the old one minus the new one being `step`."""
        if self.mean is not None:
            self.mean = self.mean + step

    def scale(self, factor: float, root: float = 1.0) -> None:
        """Multiply all rows seen by a power of two, and the roots of their weights by another."""
        if self.gram is not None:
            self.gram, self.mean = self.gram * (factor * root) ** 2, self.mean * factor
            self.weight *= root**2

    def merge(self, other: "Exact") -> None:
        """Add another stream of the same shift."""
        if other.gram is None:
            return
        if self.gram is None:
            self.gram, self.weight, self.mean = other.gram, other.weight, other.mean
            return
        total = self.weight + other.weight
        if self.center and total:
            jump = self.mean - other.mean
            self.gram = self.gram + self.weight * other.weight / total * jump[:, None] * jump
            self.mean = self.mean - other.weight / total * jump
        self.gram, self.weight = self.gram + other.gram, total

    def answer(self, intake: Intake, k: int) -> Answer:
        """Return the leading eigenvectors of the Gram matrix."""
        if intake.filled:
            self.add(intake.flushed())
        gram = to_host(self.gram)
        made = gram_answer(gram, k, "exact")
        made.components, made.tracked = like(made.components, self.gram), like(made.tracked, self.gram)
        made.energy, made.mean = float(np.trace(gram)), self.mean
        return made
