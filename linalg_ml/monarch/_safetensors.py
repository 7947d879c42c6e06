"""Files of the safetensors format: their header, their tensors as views of the file, and Monarch matrices in them.

A file is the length of its header (8 bytes, little-endian), the header (JSON), and the numbers. NumPy has neither
bfloat16 nor the floats of 8 bits and fewer, and a model may be larger than the memory: hence a reader of our own, which
maps the file and takes nothing for what it is not.
"""

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ._matrix import MonarchMatrix

# Bits of a number, and NumPy's name for what is stored. BF16 is read as its bits; what is narrower than NumPy's own
# floats, or packed, as bytes.
_DTYPES = {
    "BOOL": (8, "?"),
    "U8": (8, "u1"),
    "I8": (8, "i1"),
    "U16": (16, "<u2"),
    "I16": (16, "<i2"),
    "U32": (32, "<u4"),
    "I32": (32, "<i4"),
    "U64": (64, "<u8"),
    "I64": (64, "<i8"),
    "F16": (16, "<f2"),
    "BF16": (16, "<u2"),
    "F32": (32, "<f4"),
    "F64": (64, "<f8"),
    "C64": (64, "<c8"),
    **dict.fromkeys(("F8_E4M3", "F8_E4M3FNUZ", "F8_E5M2", "F8_E5M2FNUZ", "F8_E8M0"), (8, "u1")),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), (6, "u1")),
    "F4": (4, "u1"),
}
FLOATS = ("F64", "F32", "F16", "BF16")  # those one can compute with
HALVES = ("F16", "BF16")  # and of them, those that are computed in float32

_METADATA = "__metadata__"
_LARGEST_HEADER = 100_000_000  # bytes: the format's own limit
_ALIGNMENT = 8

MONARCH = "linalg_ml.monarch"  # key of the metadata that describes Monarch matrices
LEFT, RIGHT = ".monarch.left", ".monarch.right"  # what the names of their factors end in


# --- public -------------------------------------------------------------------------------------------


def load_safetensors(path: str | os.PathLike) -> dict[str, np.ndarray | MonarchMatrix]:
    """Load the tensors of a safetensors file, Monarch matrices of ``linalg-ml compress`` among them.

    Parameters
    ----------
    path : path-like
        File of the safetensors format, compressed or not.

    Returns
    -------
    tensors : dict
        By name, in the order of the file: a `MonarchMatrix`, with its `relative_error`, for each weight that was
        compressed; arrays for the others, as stored. bfloat16 tensors, and factors of 16 bits, become float32. Floats
        of 8 bits and fewer, which NumPy does not have, are given as their bytes (uint8), packed ones in one row.

    Raises
    ------
    ValueError
        If the file is not of this format, is truncated, or its factors are not what its metadata say.

    See Also
    --------
    project : what the command calls for every weight.

    Notes
    -----
    The factors of weight NAME are stored as ``NAME.monarch.left`` (J, p, K, rank) and ``NAME.monarch.right``
    (K, rank, J, q), as `MonarchMatrix` takes them; the metadata's entry ``linalg_ml.monarch`` holds JSON text: for each
    NAME its ``shape``, ``nblocks``, ``rank`` and ``relative_error``. So other programs can read them, too.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from linalg_ml import monarch
    >>> header = b'{"bias":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}'
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder, "model.safetensors")
    ...     _ = path.write_bytes(len(header).to_bytes(8, "little") + header + bytes([0x80, 0x3F, 0x00, 0xC0]))
    ...     monarch.load_safetensors(path)
    {'bias': array([ 1., -2.], dtype=float32)}
    """
    model = Model(path)
    entries = model.entries(MONARCH)
    matrices = {name: _matrix(model, name, entry) for name, entry in entries.items()}
    tensors: dict[str, np.ndarray | MonarchMatrix] = {}
    for name, tensor in model.tensors.items():
        of, end = name.removesuffix(LEFT).removesuffix(RIGHT), name[-len(LEFT) :]
        if of != name and of in matrices:
            if end == LEFT:
                tensors[of] = matrices[of]
        else:
            tensors[name] = _loaded(model, tensor, widen=("BF16",))
    return tensors


def _loaded(model: "Model", tensor: "Tensor", widen: Sequence[str]) -> np.ndarray:
    """Read a tensor into memory, as float32 if it is of a dtype in `widen`."""
    stored = model.stored(tensor)
    return numbers(stored, tensor.dtype) if tensor.dtype in widen else stored.copy()


def _matrix(model: "Model", name: str, entry: Any) -> MonarchMatrix:
    """Put a Monarch matrix together."""
    try:
        left, right = (model.tensors[name + end] for end in (LEFT, RIGHT))
        shape, relative_error = tuple(entry["shape"]), entry["relative_error"]
        expected = factor_shapes(shape, tuple(entry["nblocks"]), entry["rank"])
        if name in model.tensors:
            raise ValueError("it is there a second time, as a tensor")
        if (left.shape, right.shape) != expected or left.dtype != right.dtype or left.dtype not in FLOATS:
            raise ValueError(f"its factors are {left.dtype} {left.shape} and {right.dtype} {right.shape}")
        if type(relative_error) not in (int, float) or not 0 <= relative_error < math.inf:
            raise ValueError(f"its relative error is {relative_error!r}")
        factors = (_loaded(model, tensor, widen=HALVES) for tensor in (left, right))
        M = MonarchMatrix(*factors, shape=shape)
    except KeyError as missing:
        raise model.refusal(f"does not have all of Monarch matrix {name!r}: {missing} is missing") from None
    except (TypeError, ValueError) as error:
        raise model.refusal(f"describes Monarch matrix {name!r} wrongly: {error}") from error
    M.relative_error = float(relative_error)
    return M


def factor_shapes(
    shape: tuple[int, ...], nblocks: tuple[int, ...], rank: int
) -> tuple[tuple[int, int, int, int], tuple[int, int, int, int]]:
    """Return the shapes of the left and the right factor."""
    (m, n), (J, K) = shape, nblocks
    if not all(type(size) is int and size > 0 for size in (m, n, J, K, rank)):
        raise ValueError(f"shape {shape}, nblocks {nblocks} and rank {rank} must be positive integers")
    return (J, -(-m // J), K, rank), (K, rank, J, -(-n // K))


# --- numbers ------------------------------------------------------------------------------------------


def numbers(stored: np.ndarray, dtype: str) -> np.ndarray:
    """Return what one can compute with: 16-bit floats widened to float32, which holds all of them."""
    if dtype == "BF16":
        bits = stored.astype(np.uint32)
        bits <<= 16
        return bits.view(np.float32)
    return stored.astype(np.float32) if dtype == "F16" else stored


def rounded(array: np.ndarray, dtype: str) -> np.ndarray:
    """Return finite numbers as they are stored, rounded to nearest, ties to even."""
    if dtype != "BF16":
        return np.asarray(array, _DTYPES[dtype][1])
    bits = array.astype(np.float32).view(np.uint32)
    bits += 0x7FFF + ((bits >> 16) & 1)
    return (bits >> 16).astype("<u2")


# --- the file -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tensor:
    """What the header says of one tensor; `start` and `stop` count bytes from the end of the header."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int

    @property
    def size(self) -> int:
        """Count its numbers."""
        return math.prod(self.shape)


def laid_out(items: Iterable[tuple[str, str, Sequence[int]]]) -> list[Tensor]:
    """Put tensors of these names, dtypes and shapes one after the other."""
    tensors: list[Tensor] = []
    start = 0
    for name, dtype, shape in items:
        stop = start + _DTYPES[dtype][0] * math.prod(shape) // 8
        tensors.append(Tensor(name, dtype, tuple(shape), start, stop))
        start = stop
    return tensors


def encode_header(tensors: Iterable[Tensor], metadata: Mapping[str, str], length: int = 0) -> bytes:
    """Return length and header, filled up with spaces so that the numbers start at a multiple of 8, or at `length`."""
    items: dict[str, Any] = {_METADATA: dict(metadata)} if metadata else {}
    for tensor in tensors:
        offsets = [tensor.start, tensor.stop]
        items[tensor.name] = {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": offsets}
    text = json.dumps(items, separators=(",", ":")).encode()
    room = length - 8 if length else len(text) + -len(text) % _ALIGNMENT
    assert len(text) <= room
    return room.to_bytes(8, "little") + text.ljust(room)


class Model:
    """A file that is open for reading: `tensors` by name in the order in which they lie, and `metadata`."""

    def __init__(self, path: str | os.PathLike):
        self.path = os.fspath(path)
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            length = self._length(file.read(9), size)
            file.seek(8)
            header = self._json(file.read(length))
            self._bytes = np.asarray(np.memmap(file, np.uint8, "r", shape=(size,)))[8 + length :]
        self.metadata = self._metadata(header.pop(_METADATA, {}))
        found = [self._tensor(name, item) for name, item in header.items()]
        self.tensors = {tensor.name: tensor for tensor in sorted(found, key=lambda item: (item.start, item.stop))}
        self._check_offsets()

    def refusal(self, why: str) -> ValueError:
        """Return the error that says what is wrong with the file."""
        return ValueError(f"{self.path!r} {why}")

    def raw(self, tensor: Tensor) -> np.ndarray:
        """Return the bytes of a tensor, as a view of the file."""
        return self._bytes[tensor.start : tensor.stop]

    def stored(self, tensor: Tensor) -> np.ndarray:
        """Return a tensor as a view of the file, a copy if the file has it where no such number may lie."""
        bits, dtype = _DTYPES[tensor.dtype]
        array = self.raw(tensor).view(dtype)
        return np.require(array if bits < 8 else array.reshape(tensor.shape), requirements="A")

    def entries(self, key: str) -> dict[str, Any]:
        """Return what the metadata hold under `key`, one entry for each compressed tensor."""
        text = self.metadata.get(key, "{}")
        return self._json(text.encode(), f"metadata {key!r}")

    # What the header must be. The format's reference implementation refuses the same.

    def _length(self, start: bytes, size: int) -> int:
        length = int.from_bytes(start[:8], "little")
        if len(start) < 9 or start[8:] != b"{" or length > _LARGEST_HEADER:
            raise self.refusal("is not a safetensors file")
        if length > size - 8:
            raise self.refusal(f"is truncated: its header has {length} bytes, the file has {size}")
        return length

    def _json(self, text: bytes, what: str = "a header") -> dict[str, Any]:
        try:
            found = json.loads(text.decode(), object_pairs_hook=_without_duplicates)
        except (ValueError, RecursionError) as error:
            raise self.refusal(f"has {what} that is not JSON: {error}") from None
        if not isinstance(found, dict):
            raise self.refusal(f"has {what} that is not a JSON object")
        return found

    def _metadata(self, found: Any) -> dict[str, str]:
        if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
            raise self.refusal("has metadata that are not all text")
        return found

    def _tensor(self, name: str, item: Any) -> Tensor:
        try:
            dtype, shape, (start, stop) = item["dtype"], tuple(item["shape"]), item["data_offsets"]
        except (KeyError, TypeError, ValueError):
            raise self.refusal(f"has no dtype, shape and data_offsets for tensor {name!r}") from None
        if not isinstance(dtype, str) or dtype not in _DTYPES:
            raise self.refusal(f"has tensor {name!r} of unknown dtype {dtype!r}")
        if not all(type(number) is int and number >= 0 for number in (*shape, start, stop)):
            raise self.refusal(f"has tensor {name!r} of shape {list(shape)} at bytes {start!r} to {stop!r}")
        if 8 * (stop - start) != _DTYPES[dtype][0] * math.prod(shape):
            raise self.refusal(f"has tensor {name!r}, {dtype} {list(shape)}, in {stop - start} bytes")
        return Tensor(name, dtype, shape, start, stop)

    def _check_offsets(self) -> None:
        """Tensors must cover all of the data, none twice."""
        end = 0
        for tensor in self.tensors.values():
            if tensor.start != end:
                what = "overlaps" if tensor.start < end else "leaves a gap after"
                raise self.refusal(f"has tensor {tensor.name!r} which {what} the one before it")
            end = tensor.stop
        if len(self._bytes) < end:
            raise self.refusal(f"is truncated: its tensors have {end} bytes, of which {len(self._bytes)} are there")
        if len(self._bytes) > end:
            raise self.refusal(f"has {len(self._bytes) - end} bytes after its last tensor")


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name is there twice")
    return found
