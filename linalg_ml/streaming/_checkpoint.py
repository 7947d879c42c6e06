"""Checkpoints: the whole state of a stream in one .npz file without pickles, guarded by a checksum."""

import dataclasses
import json
import os
import zipfile
import zlib
from importlib import import_module
from typing import Any, BinaryIO

import numpy as np
from scipy import sparse

from .._core.arrays import device, is_sparse, namespace, to_numpy
from .._core.files import replacing

_VERSION = 1
_LIBRARIES = {
    "array_api_strict": "array_api_strict",
    "cupy": "array_api_compat.cupy",
    "torch": "array_api_compat.torch",
}


def save(path: str | os.PathLike, kind: str, state: dict[str, Any]) -> None:
    """Write `state`: dicts, lists, dataclasses, arrays, numbers, strings and None, nested."""
    arrays: list[np.ndarray] = []
    record = json.dumps({"kind": kind, "version": _VERSION, "state": _packed(state, arrays)})
    named: dict[str, Any] = {f"array{i}": array for i, array in enumerate(arrays)}
    with replacing(path) as file:
        np.savez(file, record=np.array(record), checksum=np.array(_checksum(record, arrays)), **named)


def load(path: str | os.PathLike, kind: str, classes: tuple[type, ...]) -> dict[str, Any]:
    """Read what `save` wrote, or say in a ValueError why that cannot be."""
    name = os.fspath(path)
    with open(path, "rb") as stored:
        try:
            with np.load(stored, allow_pickle=False) as file:
                record, checksum = str(file["record"]), int(file["checksum"])
                arrays = [file[f"array{i}"] for i in range(len(file.files) - 2)]
            content = json.loads(record)
            found, version = content["kind"], content["version"]
        except Exception as error:  # zipfile has half a dozen kinds of them for files that are damaged
            raise ValueError(f"{name!r} {_damage(stored, error)}: {error}") from error
    if checksum != _checksum(record, arrays):
        raise ValueError(f"{name!r} was altered: its checksum does not fit")
    if found != kind or version != _VERSION:
        raise ValueError(f"{name!r} holds {found} of version {version}, not {kind} of version {_VERSION}")
    return _unpacked(content["state"], arrays, {made.__name__: made for made in classes})


def _damage(stored: BinaryIO, error: Exception) -> str:
    """Return what is wrong with a file that cannot be read."""
    stored.seek(0)
    if stored.read(4) != b"PK\x03\x04":
        return "is no checkpoint of this library"
    if not zipfile.is_zipfile(stored):
        return "is cut off, or no checkpoint of this library"
    return "is no checkpoint of this library" if isinstance(error, KeyError) else "was altered"


def _checksum(record: str, arrays: list[np.ndarray]) -> int:
    value = zlib.crc32(record.encode())
    for array in arrays:
        value = zlib.crc32(f"{array.dtype.str}{array.shape}".encode(), value)
        value = zlib.crc32(np.ascontiguousarray(array).data, value)
    return value


def _packed(value: Any, arrays: list[np.ndarray]) -> Any:
    if dataclasses.is_dataclass(value):
        fields = {f.name: _packed(getattr(value, f.name), arrays) for f in dataclasses.fields(value)}
        return {"class": type(value).__name__, "fields": fields}
    if isinstance(value, dict):
        return {"dict": {name: _packed(item, arrays) for name, item in value.items()}}
    if isinstance(value, list):
        return [_packed(item, arrays) for item in value]
    if is_sparse(value):
        parts = [_packed(part, arrays) for part in (value.data, value.indices, value.indptr)]
        return {"csr": parts, "shape": list(value.shape)}
    if hasattr(value, "shape") and hasattr(value, "dtype") and value.ndim:
        arrays.append(to_numpy(value))
        return {"array": len(arrays) - 1, **_place(value)}
    return value.item() if isinstance(value, np.generic) else value


def _place(value: Any) -> dict[str, str]:
    """Return the library of an array, and for torch, which has no current one, the device."""
    library = namespace(value).__name__.rpartition(".")[2]
    if library == "numpy":
        return {}
    return {"library": library, "device": str(device(value)) if library == "torch" else ""}


def _placed(array: np.ndarray, place: dict[str, Any]) -> Any:
    library = place.get("library", "numpy")
    if library == "numpy":
        return array
    if library not in _LIBRARIES:
        raise ValueError(f"the checkpoint holds arrays of the unknown library {library!r}")
    xp = import_module(_LIBRARIES[library])
    return xp.asarray(array, device=place["device"]) if place["device"] else xp.asarray(array)


def _unpacked(value: Any, arrays: list[np.ndarray], classes: dict[str, type]) -> Any:
    if isinstance(value, list):
        return [_unpacked(item, arrays, classes) for item in value]
    if not isinstance(value, dict):
        return value
    if "array" in value:
        return _placed(arrays[value["array"]], value)
    if "csr" in value:
        return sparse.csr_array(tuple(_unpacked(value["csr"], arrays, classes)), shape=tuple(value["shape"]))
    if "dict" in value:
        return {name: _unpacked(item, arrays, classes) for name, item in value["dict"].items()}
    return classes[value["class"]](**{n: _unpacked(v, arrays, classes) for n, v in value["fields"].items()})
