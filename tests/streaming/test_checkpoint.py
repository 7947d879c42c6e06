"""Checkpoints: the same bits after them, and files that are none."""

import os
import subprocess
import sys

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from scipy import sparse
from streaming.streams import spiked

from linalg_ml._core.arrays import to_numpy
from linalg_ml.streaming import FrequentDirections, TopEigenvectorStream

METHODS = ["subspace", "random-order", "oja", "frequent-directions", "exact"]
X = spiked(1500, 250, 20, 77, np.float64)


def same(a, b):
    assert_array_equal(to_numpy(a.components), to_numpy(b.components))
    for name in ("value", "error", "order_pvalue", "frobenius_sq", "n_rows", "value_relative_error"):
        assert getattr(a, name) == getattr(b, name)
    assert_array_equal(a.heavy_indices, b.heavy_indices)
    assert type(a.vector) is type(b.vector)
    if a.mean is not None:
        assert_array_equal(to_numpy(a.mean), to_numpy(b.mean))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_goes_on_with_the_same_bits(method, center, dtype, tmp_path):
    rows = X.astype(dtype)
    through = TopEigenvectorStream(method=method, center=center, rng=0)
    saved = TopEigenvectorStream(method=method, center=center, rng=0)
    for start, stop in ((0, 0), (0, 50), (50, 700), (700, 1100), (1100, 1500)):
        saved.save(tmp_path / "stream.npz")
        saved = TopEigenvectorStream.load(tmp_path / "stream.npz")
        for stream in (through, saved):
            stream.update(rows[start:stop])
    same(saved.result(), through.result())


CHILD = """
import sys
from pathlib import Path

import numpy as np
from linalg_ml.streaming import TopEigenvectorStream

rows, start, stop, *paths = sys.argv[1:]
for path in map(Path, paths):
    if path.exists():
        stream = TopEigenvectorStream.load(path)
    else:
        stream = TopEigenvectorStream(method=path.stem.rpartition("_")[2], center=True, rng=0)
    stream.update(np.load(rows)[int(start) : int(stop)]).save(path)
"""


def test_goes_on_in_a_new_process(tmp_path):
    np.save(tmp_path / "rows.npy", X)
    parts, wholes = ([tmp_path / f"{name}_{method}.npz" for method in METHODS] for name in ("parts", "whole"))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}  # with it the threads of the BLAS
    for start, stop, paths in ((0, 800, parts), (800, 1500, parts), (0, 1500, wholes)):
        command = [sys.executable, "-c", CHILD, str(tmp_path / "rows.npy"), str(start), str(stop), *map(str, paths)]
        subprocess.run(command, env=environment, check=True, timeout=600)
    for part, whole in zip(parts, wholes, strict=True):
        same(TopEigenvectorStream.load(part).result(), TopEigenvectorStream.load(whole).result())


@pytest.mark.parametrize(
    "settings",
    [{"order": "arbitrary"}, {"forget": 0.5}, {"n_components": 3, "max_heavy": 0}, {"max_memory": 200_000}],
)
def test_under_other_settings(settings, tmp_path):
    stream = TopEigenvectorStream(method="subspace", center=True, rng=0, **settings).update(X[:777])
    stream.save(tmp_path / "stream.npz")
    loaded = TopEigenvectorStream.load(tmp_path / "stream.npz")
    same(loaded.update(X[777:]).result(), stream.update(X[777:]).result())
    loaded.save(tmp_path / "stream.npz")
    if "forget" not in settings:
        merged = TopEigenvectorStream.load(tmp_path / "stream.npz").merge(loaded)
        same(merged.result(), stream.copy().merge(stream).result())


@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_sparse_and_weighted(method, center, tmp_path):
    rows, weights = sparse.csr_array(np.where(X > 1, X, 0)), np.random.default_rng(0).random(1500)
    stream = TopEigenvectorStream(method=method, center=center, rng=0).update(rows[:777], weights[:777])
    stream.save(tmp_path / "stream.npz")
    loaded = TopEigenvectorStream.load(tmp_path / "stream.npz")
    for each in (stream, loaded):
        each.update(rows[777:], weights[777:])
    same(loaded.result(), stream.result())


@pytest.mark.parametrize("method", ["subspace", "oja", "exact"])
def test_namespace_comes_back(method, other_xp, tmp_path):
    rows = other_xp.asarray(X[:1000])
    stream = TopEigenvectorStream(method=method, rng=0).update(rows[:777, :])
    stream.save(tmp_path / "stream.npz")
    loaded = TopEigenvectorStream.load(tmp_path / "stream.npz")
    same(loaded.result(), stream.result())
    for each in (stream, loaded):
        each.update(rows[777:, :])
    same(loaded.result(), stream.result())


def test_data_of_extreme_scale(tmp_path):
    stream = TopEigenvectorStream(center=True, rng=0).update(X[:777] * 2.0**300)
    stream.save(tmp_path / "stream.npz")
    same(TopEigenvectorStream.load(tmp_path / "stream.npz").result(), stream.result())


# --- files that are none --------------------------------------------------------------------------------


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "stream.npz"
    TopEigenvectorStream(rng=0).update(X[:300]).save(path)
    return path


@pytest.mark.parametrize("load", [TopEigenvectorStream.load, FrequentDirections.load])
def test_foreign_files(load, tmp_path):
    np.savez(tmp_path / "arrays.npz", a=np.ones(3))
    np.save(tmp_path / "array.npy", np.ones(3))
    (tmp_path / "text.npz").write_text("no checkpoint")
    (tmp_path / "empty.npz").write_bytes(b"")
    np.savez(tmp_path / "pickled.npz", record=np.array([object()], object), checksum=np.array(1))
    for name in ("arrays.npz", "array.npy", "text.npz", "empty.npz"):
        with pytest.raises(ValueError, match="no checkpoint of this library"):
            load(tmp_path / name)
    with pytest.raises(ValueError, match="pickled.npz"):  # and nothing is unpickled
        load(tmp_path / "pickled.npz")
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "missing.npz")


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
def test_truncated(checkpoint, share):
    content = checkpoint.read_bytes()
    checkpoint.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match="cut off"):
        TopEigenvectorStream.load(checkpoint)


def test_altered_bytes(checkpoint):
    content = bytearray(checkpoint.read_bytes())
    content[len(content) // 2] ^= 1
    checkpoint.write_bytes(content)
    with pytest.raises(ValueError, match="was altered"):
        TopEigenvectorStream.load(checkpoint)


def test_altered_array(checkpoint):
    with np.load(checkpoint) as file:
        arrays = dict(file)
    large = max((name for name in arrays if name.startswith("array")), key=lambda name: arrays[name].size)
    arrays[large].flat[0] += 1
    np.savez(checkpoint, **arrays)
    with pytest.raises(ValueError, match="was altered"):
        TopEigenvectorStream.load(checkpoint)


def test_of_another_kind(checkpoint, tmp_path):
    with pytest.raises(ValueError, match="holds TopEigenvectorStream"):
        FrequentDirections.load(checkpoint)
    FrequentDirections(5).update(np.eye(5)).save(tmp_path / "sketch.npz")
    with pytest.raises(ValueError, match="holds FrequentDirections"):
        TopEigenvectorStream.load(tmp_path / "sketch.npz")


def test_an_interrupted_save_keeps_the_old_file(checkpoint, monkeypatch):
    before = checkpoint.read_bytes()

    def fail(*arguments, **more):
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez", fail)
    with pytest.raises(OSError, match="disk full"):
        TopEigenvectorStream(rng=0).update(X[:400]).save(checkpoint)
    assert checkpoint.read_bytes() == before
    assert [path.name for path in checkpoint.parent.iterdir()] == [checkpoint.name]
