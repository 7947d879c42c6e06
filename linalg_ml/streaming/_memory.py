"""What a state holds in memory."""

from typing import Any

import numpy as np

from ._blocks import is_csr


def bytes_of(value: Any) -> int:
    """Return the bytes of all arrays in a nested state; of a view, those of what it keeps alive."""
    arrays: dict[int, int] = {}
    _collect(value, arrays)
    return sum(arrays.values())


def _collect(value: Any, arrays: dict[int, int]) -> None:
    """Put identities and bytes of arrays into a dict."""
    if isinstance(value, dict):
        for item in value.values():
            _collect(item, arrays)
    elif isinstance(value, list | tuple):
        for item in value:
            _collect(item, arrays)
    elif is_csr(value):
        _collect([value.data, value.indices, value.indptr], arrays)
    elif hasattr(value, "__dataclass_fields__"):
        _collect(vars(value), arrays)
    elif hasattr(value, "nbytes"):
        owner = value.base if isinstance(getattr(value, "base", None), np.ndarray) else value
        arrays[id(owner)] = int(owner.nbytes)
