"""What a stream is asked to do, checked once; and how its state is fitted into memory."""

import math
from dataclasses import dataclass
from typing import Any

from .._core.arrays import check_choice, check_int, check_real

METHODS = ("auto", "subspace", "random-order", "oja", "frequent-directions", "exact")
_WORDS = 14  # twelve snapshots, shift and mean
_FIXED = 8192  # bytes of state that do not grow with the width


@dataclass(frozen=True)
class Settings:
    """Keywords of `TopEigenvectorStream`; two streams with equal ones can be merged."""

    n_components: int
    method: str
    order: str
    center: bool
    n_oversamples: int
    block_size: int
    max_heavy: int
    max_memory: int | None
    forget: float


def check_settings(**given: Any) -> Settings:
    """Return the settings, or say which is wrong."""
    check_choice(given["method"], "method", METHODS)
    check_choice(given["order"], "order", ("random", "arbitrary"))
    settings = Settings(
        check_int(given["n_components"], "n_components"),
        given["method"],
        given["order"],
        bool(given["center"]),
        check_int(given["n_oversamples"], "n_oversamples", 0),
        check_int(given["block_size"], "block_size"),
        check_int(given["max_heavy"], "max_heavy", 0),
        None if given["max_memory"] is None else check_int(given["max_memory"], "max_memory"),
        check_real(given["forget"], "forget", 0, 1, open_ends=False),
    )
    if not settings.forget:
        raise ValueError("forget must be a number in (0, 1], got 0")
    if settings.method == "oja" and settings.n_components > 1:
        raise ValueError(f"method='oja' finds one direction, got n_components={settings.n_components}")
    return settings


@dataclass(frozen=True)
class Plan:
    """Sizes for rows of a known width."""

    method: str
    size: int  # l, tracked directions
    block_size: int
    max_heavy: int
    n_sketch: int  # ℓ of Frequent Directions


def plan(settings: Settings, d: int) -> Plan:
    """Choose the method, and sizes that fit `max_memory`."""
    k = check_int(settings.n_components, "n_components", 1, d, "the width of the rows")
    size = min(d, k + settings.n_oversamples)
    block, heavy, memory = settings.block_size, settings.max_heavy, settings.max_memory
    method = settings.method
    if method == "auto":
        small = d <= 3 * size + heavy + block + _WORDS
        fits = small if memory is None else _least("exact", settings.order, d, size, k)[0] <= memory
        method = "exact" if fits else "subspace"
    if memory is None:
        keeps = method in ("subspace", "random-order")
        return Plan(method, size, block, heavy if keeps else 0, max(32, k + 1))
    rows = (memory - _FIXED) // (8 * d)
    least, used = _least(method, settings.order, d, size, k)
    if memory < least:
        what = f"for method {method!r} at {d} columns"
        raise ValueError(f"max_memory must be at least {least} bytes {what}, got {memory}")
    if method == "frequent-directions":
        free = rows - used
        block = min(block, max(1, free // 4))
        return Plan(method, size, block, 0, min(d + 1, (free - block) // 2))
    if method not in ("subspace", "random-order"):
        return Plan(method, size, min(block, rows - used), 0, 32)
    copies = 2 if _beside(method, settings.order) else 1  # of the rows that wait
    free = memory // (8 * d) - used
    block = min(block, max(size, (free - min(heavy, free // 3)) // copies))
    return Plan(method, size, block, min(heavy, free - copies * block), max(size, k + 1))


def _beside(method: str, order: str) -> bool:
    """Tell whether Frequent Directions run beside."""
    return method == "subspace" and order == "arbitrary"


def _least(method: str, order: str, d: int, size: int, k: int) -> tuple[int, int]:
    """Return the fewest bytes for a method, and how many rows of its state are neither kept aside nor waiting."""
    if method in ("subspace", "random-order"):
        beside = _beside(method, order)
        used = 3 * size + _WORDS + beside * (2 * max(size, k + 1) + 1)
        return 8 * d * (used + (1 + beside) * size), used
    if method == "exact":
        return 8 * d * (d + 2 + min(d, 32)) + _FIXED, d + 2
    if method == "oja":
        chains = math.ceil(math.log2(400 * d * math.log(max(d, 2)))) + 1
        return 8 * d * (16 + chains + 5) + _FIXED, 16 + chains + 4
    return 8 * d * (2 * (k + 1) + 3) + _FIXED, 2
