"""The command `compress`: what it writes, what it leaves alone, and what it refuses without a trace."""

import errno
import json
import os
import re
import tracemalloc

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from linalg_ml.__main__ import main
from linalg_ml._commands import _compress_monarch, compress
from linalg_ml.monarch import MonarchMatrix, project
from linalg_ml.monarch._safetensors import MONARCH, Model, encode_header, laid_out, load_safetensors, numbers, rounded

STORED = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
RNG = np.random.default_rng(0)


def weight(dtype, shape):
    return dtype, rounded(RNG.standard_normal(shape), dtype)


def put(path, tensors, metadata=None, padding=0):
    """Write a file of tensors, given as (dtype, array as stored) by name."""
    layout = laid_out((name, dtype, array.shape) for name, (dtype, array) in tensors.items())
    header = encode_header(layout, metadata or {})
    if padding:
        header = encode_header(layout, metadata or {}, length=len(header) + padding)
    path.write_bytes(header + b"".join(array.tobytes() for _, array in tensors.values()))
    return path


@pytest.fixture
def model(tmp_path):
    tensors = {
        "h.0.weight": weight("F32", (16, 32)),
        "h.0.bias": weight("F32", (16,)),
        "h.1.weight": weight("F16", (24, 16)),
        "odd": weight("F32", (7, 9)),
        "tall": weight("F64", (16, 5)),
        "codes": ("I64", np.arange(16).reshape(4, 4)),
        "eighths": ("F8_E4M3", np.arange(64, dtype=np.uint8).reshape(8, 8)),
        "complex": ("C64", np.ones((8, 8), np.complex64)),
        "stack": weight("BF16", (2, 8, 8)),
        "empty": weight("F32", (0, 8)),
        "tiny": weight("F32", (4, 4)),  # whose factors would have as many numbers
        "number": weight("F32", ()),
    }
    return put(tmp_path / "model.safetensors", tensors, {"format": "pt"})


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out.safetensors"


@pytest.fixture
def run(model, out, capsys):
    """Compress the model; return the exit code and what was printed."""

    def run(*options, source=model, target=out):
        code = main(["compress", str(source), *options, "-o", str(target)])
        return code, *capsys.readouterr()

    return run


def refused(result, *said):
    """Hold that it ended with one line that says so."""
    code, printed, complaint = result
    assert code == 2
    assert printed == ""
    assert complaint.startswith("linalg-ml compress: error: ")
    assert complaint.count("\n") == 1
    for words in said:
        assert words in complaint


# --- what is written ----------------------------------------------------------------------------------


def test_weights_become_monarch_matrices_and_the_rest_is_copied(run, model, out):
    assert run()[0] == 0
    before, after = Model(model), Model(out)
    expected = []
    for name in before.tensors:
        is_weight = name in ("h.0.weight", "h.1.weight")
        expected += [f"{name}.monarch.left", f"{name}.monarch.right"] if is_weight else [name]
    assert list(after.tensors) == expected
    for name, tensor in after.tensors.items():
        if name in before.tensors:
            old = before.tensors[name]
            assert (tensor.dtype, tensor.shape) == (old.dtype, old.shape)
            assert after.raw(tensor).tobytes() == before.raw(old).tobytes()
    left, right = after.tensors["h.0.weight.monarch.left"], after.tensors["h.0.weight.monarch.right"]
    assert (left.dtype, left.shape) == ("F32", (4, 4, 4, 1))
    assert (right.dtype, right.shape) == ("F32", (4, 1, 4, 8))


def test_metadata(run, out):
    run()
    metadata = Model(out).metadata
    assert metadata.keys() == {"format", MONARCH}
    assert metadata["format"] == "pt"
    entries = json.loads(metadata[MONARCH])
    assert entries.keys() == {"h.0.weight", "h.1.weight"}
    assert entries["h.0.weight"].keys() == {"shape", "nblocks", "rank", "relative_error"}
    assert entries["h.0.weight"]["shape"] == [16, 32]
    assert entries["h.0.weight"]["nblocks"] == [4, 4]
    assert entries["h.0.weight"]["rank"] == 1


@pytest.mark.parametrize("dtype", STORED)
@pytest.mark.parametrize("rank", [1, 3])
def test_error_is_that_of_the_factors_as_stored(dtype, rank, run, out, tmp_path):
    _, stored = weight(dtype, (40, 48))
    source = put(tmp_path / "a", {"w": (dtype, stored)})
    code, printed, _ = run("--rank", str(rank), source=source)
    assert code == 0
    parts = Model(out)
    assert {tensor.dtype for tensor in parts.tensors.values()} == {dtype}
    M = load_safetensors(out)["w"]
    A = numbers(stored, dtype).astype(float)
    left, right = M.left.astype(float), M.right.astype(float)
    dense = np.einsum("jlks,ksji->ljki", left, right).reshape(A.shape)
    true = np.linalg.norm(A - dense) / np.linalg.norm(A)
    assert M.relative_error == pytest.approx(true, rel=1e-6 if dtype == "F32" else 1e-12)
    best = project(A, nblocks=4, rank=rank).relative_error
    assert best * (1 - 1e-6) <= true <= best * (1 + 1e-2)
    assert f"{100 * true:.1f} %" in printed


@pytest.mark.parametrize("dtype", STORED)
def test_exact_member_keeps_an_error_of_rounding(dtype, run, out, tmp_path):
    left, right = RNG.integers(-2, 3, (4, 5, 4, 1)), RNG.integers(-2, 3, (4, 1, 4, 6))
    A = np.einsum("jlks,ksji->ljki", left, right).reshape(20, 24)
    source = put(tmp_path / "a", {"w": (dtype, rounded(A.astype(float), dtype))})
    run("--rank", "1", source=source)
    eps = {"F64": 2.0**-52, "F32": 2.0**-23, "F16": 2.0**-10, "BF16": 2.0**-7}[dtype]
    assert load_safetensors(out)["w"].relative_error < 4 * eps


@pytest.mark.parametrize("value", [0.0, 1e30, 1e-30])
def test_scale_does_not_matter(value, run, out, tmp_path):
    source = put(tmp_path / "a", {"w": ("F32", np.full((16, 16), value, "f4"))})
    assert run(source=source)[0] == 0
    M = load_safetensors(out)["w"]
    assert M.relative_error < 1e-6
    np.testing.assert_allclose(M.to_dense(), value, rtol=1e-5)


def test_default_rank_halves_a_square_matrix(run, out, tmp_path):
    source = put(tmp_path / "a", {"w": weight("F32", (64, 64))})
    run(source=source)
    M = load_safetensors(out)["w"]
    assert M.rank == 4
    assert M.n_parameters == 64 * 64 // 2


def test_blocks_and_rank_asked_for(run, out, tmp_path):
    source = put(tmp_path / "a", {"w": weight("F32", (64, 32)), "v": weight("F32", (36, 36))})
    run("--nblocks", "8", "--rank", "2", source=source)
    found = load_safetensors(out)
    assert (found["w"].nblocks, found["w"].rank) == ((8, 8), 2)
    assert isinstance(found["v"], np.ndarray)


def test_match_chooses_by_search(run, out):
    code, printed, _ = run("--match", r"\.1\.w")
    assert code == 0
    kinds = {name: isinstance(value, MonarchMatrix) for name, value in load_safetensors(out).items()}
    assert [name for name, is_monarch in kinds.items() if is_monarch] == ["h.1.weight"]
    assert "11 × --match is not in the name" in printed


def test_compressed_file_can_be_compressed_further(run, out, tmp_path):
    run("--match", "h.0")
    code, *_ = run(source=out, target=tmp_path / "further")
    assert code == 0
    found = load_safetensors(tmp_path / "further")
    assert [name for name, value in found.items() if isinstance(value, MonarchMatrix)] == ["h.0.weight", "h.1.weight"]
    once = load_safetensors(out)["h.0.weight"]
    assert found["h.0.weight"].relative_error == once.relative_error
    np.testing.assert_array_equal(found["h.0.weight"].left, once.left)


def test_runs_agree_to_the_bit(run, out, tmp_path):
    run("--rank", "1")
    run("--rank", "1", target=tmp_path / "again")
    assert out.read_bytes() == (tmp_path / "again").read_bytes()


def test_numbers_that_lie_anywhere(run, out, tmp_path):
    tensors = {"w": weight("F32", (16, 16)), "v": weight("BF16", (16, 16))}
    found = []
    for padding in (0, 1):
        source = put(tmp_path / "a", tensors, padding=padding)
        assert run(source=source, target=tmp_path / f"{padding}")[0] == 0
        found.append((tmp_path / f"{padding}").read_bytes())
    assert found[0] == found[1]


def test_package_reads_what_was_written(run, model, out):
    package = pytest.importorskip("safetensors")
    run()
    with package.safe_open(str(model), "np") as before, package.safe_open(str(out), "np") as after:
        assert after.metadata().keys() == {"format", MONARCH}
        for name in ("h.0.bias", "odd", "codes", "complex", "empty", "number"):
            np.testing.assert_array_equal(after.get_tensor(name), before.get_tensor(name))
        M = load_safetensors(out)["h.0.weight"]
        np.testing.assert_array_equal(after.get_tensor("h.0.weight.monarch.left"), M.left)
        np.testing.assert_array_equal(after.get_tensor("h.0.weight.monarch.right"), M.right)


def test_others_may_read_the_file_as_umask_says(run, out, tmp_path):
    run()
    (tmp_path / "plain").touch()
    assert out.stat().st_mode == (tmp_path / "plain").stat().st_mode


# --- what is said -------------------------------------------------------------------------------------


def test_table(run, monkeypatch, out):
    monkeypatch.setenv("COLUMNS", "110")
    _, printed, bar = run()
    lines = printed.splitlines()
    assert re.match(r"tensor +shape +parameters +after +relative error +time$", lines[0])
    assert re.match(r"h\.0\.weight +16 × 32 +512 +192 +\d\d\.\d % +[\d.]+ .?s$", lines[2])
    assert re.match(r"h\.1\.weight +24 × 16 +384 +160 +\d\d\.\d % +[\d.]+ .?s$", lines[3])
    assert re.match(r"10 copied +448 +448 +[\d.]+ .?s$", lines[4])
    assert re.match(r"total +1,344 +800 +\d\d\.\d % +[\d.]+ .?s$", lines[5])
    reasons = ("6 × not a floating-point matrix", "2 × would not get smaller", "2 × 4 blocks do not divide the shape")
    assert lines[7].startswith("copied: ")
    assert all(reason in lines[7] for reason in reasons)
    assert str(out) in lines[-1]
    assert "compressing: 100%" in bar


def test_total_error_is_that_of_all_matrices_as_one(run, tmp_path, out):
    big = 100 * RNG.standard_normal((16, 16))
    source = put(tmp_path / "a", {"small": weight("F64", (16, 16)), "big": ("F64", big)})
    printed = run(source=source)[1]
    shown = re.findall(r"([\d.]+) %", printed)
    assert len(shown) == 3
    assert float(shown[2]) == pytest.approx(float(shown[1]), abs=0.11)  # the small one hardly counts


def test_names_do_not_steer_the_terminal(run, tmp_path):
    source = put(tmp_path / "a", {"w\x1b[2J\n": weight("F32", (16, 16))})
    code, printed, _ = run(source=source)
    assert code == 0
    assert "\x1b" not in printed
    assert "w\ufffd[2J\ufffd" in printed


# --- refusals -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--match", "("], "'(' is no regular expression"),
        (["--match", "nothing"], "nothing to compress in"),
        (["--nblocks", "5"], "nothing to compress in"),
        (["--rank", "1000"], "would not get smaller"),
        (["--nblocks", "0"], "--nblocks must be at least 1, got 0"),
        (["--nblocks", "-4"], "--nblocks must be at least 1, got -4"),
        (["--rank", "0"], "--rank must be at least 1, got 0"),
    ],
)
def test_options_that_are_refused(options, said, run, model, tmp_path):
    refused(run(*options), said)
    assert os.listdir(tmp_path) == [model.name]


@pytest.mark.parametrize("option", [["--nblocks", "2.5"], ["--rank", "many"], ["--method", "magic"]])
def test_options_of_a_wrong_kind(option, run, model, tmp_path):
    with pytest.raises(SystemExit, match="2"):
        run(*option)
    assert os.listdir(tmp_path) == [model.name]


@pytest.mark.parametrize(("length", "said"), [(-1, "truncated"), (50, "truncated"), (0, "not a safetensors file")])
def test_truncated_files_are_refused(length, said, run, model, tmp_path):
    model.write_bytes(model.read_bytes()[:length])
    refused(run(), str(model), said)
    assert os.listdir(tmp_path) == [model.name]


def test_foreign_file_is_refused(run, model, tmp_path):
    model.write_bytes(b"PK\3\4" + bytes(1000))
    refused(run(), str(model), "not a safetensors file")
    assert os.listdir(tmp_path) == [model.name]


def test_unknown_dtype_is_refused(run, model, tmp_path):
    model.write_bytes(model.read_bytes().replace(b'"F8_E4M3"', b'"F8_E9M9"'))
    refused(run(), "'eighths'", "unknown dtype 'F8_E9M9'")
    assert os.listdir(tmp_path) == [model.name]


def test_model_that_is_not_there(run, tmp_path, model):
    refused(run(source=tmp_path / "none"), f"{tmp_path / 'none'}: No such file or directory")
    refused(run(source=tmp_path), f"{tmp_path}: ")
    assert os.listdir(tmp_path) == [model.name]


def test_empty_model(run, tmp_path):
    refused(run(source=put(tmp_path / "a", {})), "it holds no tensors")


def test_existing_file_is_not_replaced(run, out, model):
    out.write_text("precious")
    refused(run(), f"{out}: File exists")
    assert out.read_text() == "precious"
    refused(run(target=model), f"{model}: File exists")


@pytest.mark.skipif(os.name != "posix", reason="links need a right on Windows")
def test_link_to_nowhere_is_not_replaced(run, out):
    out.symlink_to("nowhere")
    refused(run(), f"{out}: File exists")
    assert os.readlink(out) == "nowhere"


@pytest.mark.parametrize("where", ["missing/out", "model.safetensors/out"])
def test_folder_that_is_none(where, run, tmp_path, model):
    refused(run(target=tmp_path / where), f"{tmp_path / where}: ")
    assert os.listdir(tmp_path) == [model.name]


def test_name_of_a_factor_that_is_taken(run, model, tmp_path):
    source = put(tmp_path / "a", {"w": weight("F32", (16, 16)), "w.monarch.left": weight("F32", (3,))})
    refused(run(source=source), "'w.monarch.left'")
    assert sorted(os.listdir(tmp_path)) == ["a", model.name]


def test_metadata_that_cannot_be_added_to(run, tmp_path, out):
    source = put(tmp_path / "a", {"w": weight("F32", (16, 16))}, {MONARCH: "[]"})
    refused(run(source=source), "'linalg_ml.monarch'")
    assert not out.exists()


# --- failures on the way ------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_tensor_that_is_not_finite_is_named(value, run, tmp_path, model):
    array = np.ones((16, 16), "f4")
    array[3, 4] = value
    source = put(tmp_path / "a", {"good": weight("F32", (16, 16)), "bad": ("F32", array)})
    code, printed, complaint = run(source=source)
    assert code == 2
    assert printed == ""
    assert "\nlinalg-ml compress: error: tensor 'bad': " in complaint  # on a line of its own, below the bar
    assert complaint.endswith("\n")
    assert sorted(os.listdir(tmp_path)) == ["a", model.name]


def test_factors_beyond_the_dtype_are_refused(run, model, tmp_path, monkeypatch):
    monkeypatch.setattr(_compress_monarch, "rounded", lambda array, dtype: np.full_like(array, np.inf, np.float16))
    with np.errstate(invalid="ignore"):
        code, _, complaint = run("--match", "h.1")
    assert code == 2
    assert "'h.1.weight'" in complaint
    assert os.listdir(tmp_path) == [model.name]


def fail_at_second(failure):
    """Return a `project` that fails at its second call."""
    calls = []

    def fail(*args, **options):
        calls.append(args)
        if len(calls) > 1:
            raise failure
        return project(*args, **options)

    return fail


def test_interrupt_leaves_nothing(run, model, tmp_path, monkeypatch):
    monkeypatch.setattr(_compress_monarch, "project", fail_at_second(KeyboardInterrupt()))
    assert run()[0] == 130
    assert os.listdir(tmp_path) == [model.name]


def test_fault_leaves_nothing(run, model, tmp_path, monkeypatch):
    monkeypatch.setattr(_compress_monarch, "project", fail_at_second(RuntimeError("a fault of ours")))
    with pytest.raises(RuntimeError, match="a fault of ours"):
        run()
    assert os.listdir(tmp_path) == [model.name]


def test_full_disk(run, out, model, tmp_path, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    code, _, complaint = run()
    assert code == 2
    assert complaint.endswith(f"error: {out}: No space left on device\n")
    assert os.listdir(tmp_path) == [model.name]


def without_links(*args):
    raise OSError(errno.EOPNOTSUPP, "Operation not supported")


@pytest.mark.parametrize("linking", [os.link, without_links])
def test_file_that_appears_meanwhile_is_not_replaced(linking, run, out, model, tmp_path, monkeypatch):
    def appear(_):
        out.write_text("precious")

    monkeypatch.setattr(os, "fsync", appear)
    monkeypatch.setattr(os, "link", linking)
    code, printed, complaint = run()
    assert code == 2
    assert printed == ""
    assert complaint.endswith(f"error: {out}: File exists\n")
    assert out.read_text() == "precious"
    assert sorted(os.listdir(tmp_path)) == [model.name, out.name]


def test_file_system_without_links(run, out, model, tmp_path, monkeypatch):
    run()
    monkeypatch.setattr(os, "link", without_links)
    assert run(target=tmp_path / "second")[0] == 0
    assert (tmp_path / "second").read_bytes() == out.read_bytes()
    assert sorted(os.listdir(tmp_path)) == [model.name, out.name, "second"]


def test_failure_to_name_the_file_leaves_nothing(run, model, tmp_path, monkeypatch):
    def deny(source, target):
        raise PermissionError(errno.EACCES, "Permission denied", source, None, target)

    monkeypatch.setattr(os, "link", without_links)
    monkeypatch.setattr(os, "replace", deny)
    code, _, complaint = run()
    assert code == 2
    assert "out.safetensors: Permission denied\n" in complaint
    assert os.listdir(tmp_path) == [model.name]


# --- memory -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", STORED)
@pytest.mark.parametrize("options", [(), ("--rank", "1", "--nblocks", "16")])
def test_memory_is_twice_the_largest_tensor_and_its_factors(dtype, options, run, out, tmp_path):
    tensors = {"w": weight(dtype, (1024, 1024)), "copied": weight("F64", (1024 * 1024,)), "v": weight(dtype, (64, 64))}
    source = put(tmp_path / "a", tensors)
    run(*options, "--match", "v", source=source)  # compiles, imports
    out.unlink()
    with threadpool_limits(1, "blas"):  # two are slow where tests share the machine
        tracemalloc.start()
        try:
            assert run(*options, "--match", "w", source=source)[0] == 0
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    factors = sum(tensor.stop - tensor.start for name, tensor in Model(out).tensors.items() if "monarch" in name)
    assert peak < 2 * tensors["w"][1].nbytes + factors


# --- methods ------------------------------------------------------------------------------------------


def test_another_method_needs_its_module_and_a_line(run, out, monkeypatch, model):
    class Halves:
        key = "halves"

        def __init__(self, nblocks, rank):
            pass

        def obstacle(self, shape):
            return None if shape[0] > 8 else "too short"

        def parts(self, shape):
            return {".half": (shape[0] // 2, shape[1])}

        def entry(self, shape):
            return {"shape": shape}

        def compress(self, stored, dtype):
            return compress.Compressed({".half": stored[::2].copy()}, 3.0, 4.0)

    monkeypatch.setattr(_compress_monarch, "Halves", Halves, raising=False)
    monkeypatch.setitem(compress._METHODS, "halves", ("_compress_monarch", "Halves"))
    assert run("--method", "halves", "--match", "h.0")[0] == 0
    after = Model(out)
    assert after.tensors["h.0.weight.half"].shape == (8, 32)
    assert json.loads(after.metadata["halves"]) == {"h.0.weight": {"shape": [16, 32], "relative_error": 0.75}}
