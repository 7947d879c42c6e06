"""What a wing brings to the tour: its stops, as data; the tour command alone knows how they are shown."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any


@dataclass(frozen=True)
class TourStop:
    """One capability on real data. A wing's `_tour.py` has a function `stop` that returns one or a tuple of them."""

    capability: str  # a few words: "Sketching (SRHT)"
    purpose: str  # what it is for, one sentence
    code: str  # the call itself, at most five lines that can be pasted
    data: str  # which real data, and whose
    size: str  # "1797 × 64"
    quality: str  # the result against the exact or optimal one, in a few words with its figure
    error_name: str  # what the two errors below measure: "‖AᵀSᵀSA − AᵀA‖_F / ‖AᵀA‖_F"
    claimed_error: float  # what the library said
    true_error: float  # what is so
    seconds: float  # ours, median of several
    usual_tool: str  # "numpy A.T @ A"
    usual_seconds: float
    bytes_before: int = 0  # 0: the stop is not about size, and nothing is said of it
    bytes_after: int = 0
    picture: Callable[[Any], None] | None = None  # draws on a matplotlib Figure
    caption: str = ""  # what one sees in the picture


def timed(call: Callable[[], Any], repeats: int) -> tuple[Any, float]:
    """Return the last result of a call, and the median of the seconds it takes once its kernels are compiled."""
    call()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = call()
        seconds.append(time.perf_counter() - start)
    return result, median(seconds)
