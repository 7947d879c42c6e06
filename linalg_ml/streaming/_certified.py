"""Frequent Directions as a method for the leading direction, and the certificate of its sketch."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from .._core.arrays import Array, cast, namespace
from ._answer import Answer, completed, ratio
from ._blocks import Block
from ._centring import Centring
from ._frequent import Directions
from ._intake import Intake


def certificate(top: float, second: float, delta: float, along: float) -> float:
    """Return a bound on 1 - <v, v₁>² of a unit v with ‖Bv‖² = `along`, for σ₁² in [top, top + delta], σ₂² ≤ second.

    With x = <v, v₁>², along ≤ ‖Av‖² ≤ x σ₁² + (1 - x) σ₂², and the bound on 1 - x grows with σ₁² where along > σ₂².
    """
    if along <= second:
        return 1.0
    return min(1.0, max(0.0, top + delta - along) / (top + delta - second))


def directions_answer(sketch: Directions, k: int, energy: float, mean: Any) -> Answer:
    """Return the leading directions of the sketch with its certificate."""
    components, energies = sketch.top(sketch.filled)
    top, delta = float(energies[0]), sketch.delta
    second = (float(energies[1]) if energies.size > 1 else 0.0) + delta
    error = max(certificate(top, second, delta, top), 1e-15)
    values = np.zeros(k)
    values[: min(k, energies.size)] = energies[:k]
    return Answer(
        completed(components, k)[:k, :], values, error, 1.0, delta / top if top else 0.0, max(1.0, ratio(top, second)),
        "frequent-directions", value_bounds=(top, top + delta), energy=energy, mean=mean, tracked=components,
    )  # fmt: skip


@dataclass
class Frequent:
    """Frequent Directions as a method: state is the sketch and the mean."""

    n_features: int
    centring: Centring
    sketch: Directions
    energy: float = 0.0

    def copy(self) -> "Frequent":
        """Return a copy that can go on by itself."""
        return Frequent(self.n_features, self.centring.copy(), self.sketch.copy(), self.energy)

    def add(self, block: Block) -> None:
        """Take in rows."""
        for rows in self.centring.rows(block):
            self.sketch.add(rows)
            wide = cast(rows, "float64")
            self.energy += float(namespace(wide).sum(wide * wide))

    def move(self, step: Array) -> None:
        """Express the mean about another shift, the old one minus the new one being `step`."""
        if self.centring.mean is not None:
            self.centring.mean = self.centring.mean + step

    def scale(self, factor: float, root: float = 1.0) -> None:
        """Multiply all rows seen by a power of two, and the roots of their weights by another."""
        self.sketch.scale(factor * root)
        self.centring.scale(factor, root)
        self.energy *= (factor * root) ** 2

    def merge(self, other: "Frequent") -> None:
        """Add another stream of the same shift."""
        for row in self.centring.merge(other.centring):
            self.sketch.add(row)
            self.energy += float(namespace(row).sum(row * row))
        self.sketch.merge(other.sketch)
        self.energy += other.energy

    def holds_more(self, v: Array) -> bool:
        """Tell whether the sketch's leading direction certainly has more of the rows' energy than a unit vector v.

        For every unit x, ‖Bx‖² ≤ ‖Ax‖² ≤ ‖Bx‖² + Δ.
        """
        seen = namespace(v).matmul(cast(self.sketch.used, "float64"), cast(v, "float64"))
        along = float(namespace(v).sum(seen * seen))
        return float(self.sketch.top(1)[1][0]) > along + self.sketch.delta

    def answer(self, intake: Intake, k: int) -> Answer:
        """Return the leading directions of the sketch."""
        if intake.filled:
            self.add(intake.flushed())
        return directions_answer(self.sketch, k, self.energy, self.centring.mean)
