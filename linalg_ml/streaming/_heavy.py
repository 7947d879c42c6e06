"""The rows kept aside, joined to the light ones at the end of a stream."""

from dataclasses import dataclass

import numpy as np

from .._core.arrays import Array, cast, like, namespace
from ._intake import Intake


@dataclass(frozen=True)
class Heavy:
    """Rows whose Gram matrix, added to that of the light rows about their mean, is that of all rows about theirs."""

    rows: Array  # (h, d), float64
    energy: float  # squared Frobenius norm of all rows, light ones included
    mean: Array | None  # (d,), of all rows


def with_heavy(
    energy: float | None, weight: float, mean: Array | None, intake: Intake, kept: np.ndarray, center: bool
) -> Heavy:
    """Return the kept rows: about their own mean, with one row more for the distance of the means, if `center`.

    `energy`, `weight` and `mean` are those of the light rows; there must be kept ones.
    """
    block = intake.stored(kept)
    rows = cast(block.dense(), "float64")
    xp = namespace(rows)
    if center and block.weight:
        own = block.mean()
        rows = rows - like(block.roots, rows)[:, None] * own
        if weight and mean is not None:
            share = weight / (weight + block.weight)
            jump = mean - own
            rows = xp.concat([rows, (share * block.weight) ** 0.5 * jump[None, :]], axis=0)
            own = mean - (1 - share) * jump
        mean = own
    return Heavy(rows, (energy or 0.0) + float(xp.sum(rows * rows)), mean)
