"""Safetensors files: what is read, what is refused, and that the format's own package reads what is written."""

import json
import re

import numpy as np
import pytest

from linalg_ml.monarch import MonarchMatrix
from linalg_ml.monarch._safetensors import (
    LEFT,
    MONARCH,
    RIGHT,
    Model,
    encode_header,
    laid_out,
    load_safetensors,
    numbers,
    rounded,
)


def file_of(header, data=b""):
    """Return a file's bytes; the header may be any text."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def item(dtype, shape, start, stop):
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


VALID = file_of({"__metadata__": {"a": "b"}, "x": item("F32", [2, 3], 0, 24), "y": item("U8", [2], 24, 26)}, bytes(26))


@pytest.fixture
def stored(tmp_path):
    """Write a file and return its path."""

    def put(contents):
        path = tmp_path / "model.safetensors"
        path.write_bytes(contents)
        return path

    return put


# --- reading ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "?", "c8"])
@pytest.mark.parametrize("shape", [(), (0, 3), (5,), (2, 3, 4)])
def test_arrays_come_back_as_the_package_wrote_them(dtype, shape, tmp_path):
    package = pytest.importorskip("safetensors.numpy")
    array = np.asarray(np.random.default_rng(0).normal(0, 50, shape)).astype("i8").astype(dtype)
    package.save_file({"x": array, "other": np.ones(3)}, tmp_path / "a")
    found = load_safetensors(tmp_path / "a")
    assert found["x"].dtype == array.dtype
    assert found["x"].shape == shape
    np.testing.assert_array_equal(found["x"], array)
    assert found["x"].flags.writeable
    assert found["x"].flags.owndata or found["x"].base.flags.owndata  # not the file, which may change


@pytest.mark.parametrize("dtype", ["F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"])
def test_floats_of_a_byte_are_their_bytes(dtype, stored):
    found = load_safetensors(stored(file_of({"x": item(dtype, [2, 3], 0, 6)}, bytes(range(6)))))
    np.testing.assert_array_equal(found["x"], np.arange(6, dtype=np.uint8).reshape(2, 3))


@pytest.mark.parametrize(("dtype", "size"), [("F4", 4), ("F6_E2M3", 6), ("F6_E3M2", 6)])
def test_packed_floats_are_their_bytes_in_a_row(dtype, size, stored):
    found = load_safetensors(stored(file_of({"x": item(dtype, [2, 4], 0, size)}, bytes(range(size)))))
    assert found["x"].tolist() == list(range(size))


def test_numbers_at_any_place_of_the_file(stored):
    data = np.arange(6.0)
    for spaces in range(9):
        header = json.dumps({"x": item("F64", [2, 3], 0, 48)}).encode() + b" " * spaces
        model = Model(stored(file_of(header, data.tobytes())))
        array = model.stored(model.tensors["x"])
        assert array.flags.aligned
        np.testing.assert_array_equal(array, data.reshape(2, 3))


def test_order_is_that_of_the_data(stored):
    found = load_safetensors(stored(file_of({"b": item("U8", [1], 1, 2), "a": item("U8", [1], 0, 1)}, b"\1\2")))
    assert list(found) == ["a", "b"]
    assert found["b"] == [2]


def test_file_without_tensors(stored):
    assert load_safetensors(stored(file_of({}))) == {}


# --- bfloat16 -----------------------------------------------------------------------------------------

BFLOAT16 = [  # float32, the bits it is rounded to
    (0.0, 0x0000),
    (-0.0, 0x8000),
    (1.0, 0x3F80),
    (1 + 2**-8, 0x3F80),  # ties go to even
    (1 + 3 * 2**-8, 0x3F82),
    (1 + 2**-8 + 2**-20, 0x3F81),
    (2 - 2**-8, 0x4000),  # up to the next power of two
    (-2.0, 0xC000),
    (2.0**-133, 0x0001),  # the least there is
    (2.0**-134, 0x0000),
    (3e38, 0x7F62),
    (3.4028235e38, 0x7F80),  # float32's largest is beyond bfloat16's
]


@pytest.mark.parametrize(("value", "bits"), BFLOAT16)
def test_bfloat16_is_rounded_to_nearest_even(value, bits):
    assert rounded(np.array([value]), "BF16") == [bits]


def test_bfloat16_agrees_with_pytorch():
    torch = pytest.importorskip("torch")
    values = np.random.default_rng(0).integers(0, 2**32, 20_000, dtype=np.uint32).view(np.float32)
    values = values[np.isfinite(values)]
    theirs = torch.from_numpy(values).to(torch.bfloat16)
    assert (rounded(values, "BF16") == theirs.view(torch.int16).numpy().view(np.uint16)).all()
    assert (numbers(rounded(values, "BF16"), "BF16") == theirs.float().numpy()).all()


@pytest.mark.parametrize("dtype", ["F64", "F32", "F16", "BF16"])
def test_rounding_what_was_widened_changes_nothing(dtype):
    bits = np.arange(2**16, dtype=np.uint16)
    stored = bits if dtype == "BF16" else bits.view(np.float16).astype({"F64": "f8", "F32": "f4", "F16": "f2"}[dtype])
    stored = stored[np.isfinite(numbers(stored, dtype))]
    wide = numbers(stored, dtype)
    assert wide.dtype == (np.float64 if dtype == "F64" else np.float32)
    assert rounded(wide, dtype).tobytes() == stored.tobytes()


def test_bfloat16_tensors_are_widened(stored):
    found = load_safetensors(stored(file_of({"x": item("BF16", [2], 0, 4)}, b"\x80\x3f\x00\xc0")))["x"]
    assert found.dtype == np.float32
    assert found.tolist() == [1, -2]


# --- refused ------------------------------------------------------------------------------------------

REFUSED = {
    "empty": (b"", "is not a safetensors file"),
    "eight bytes": (bytes(8), "is not a safetensors file"),
    "zip": (b"PK\3\4" + bytes(100), "is not a safetensors file"),
    "text": (b"{" * 100, "is not a safetensors file"),
    "header too large": ((10**8 + 1).to_bytes(8, "little") + b"{}", "is not a safetensors file"),
    "header too long": ((100).to_bytes(8, "little") + b"{}", "truncated: its header has 100 bytes"),
    "not JSON": (file_of(b"{'x'}"), "header that is not JSON"),
    "not UTF-8": (file_of(b'{"\xff": 1}'), "header that is not JSON"),
    "nested too deep": (file_of(b'{"x":' + b"[" * 100_000), "header that is not JSON"),
    "name twice": (file_of(b'{"x": 1, "x": 2}'), "a name is there twice"),
    "not an item": (file_of({"x": 1}), "no dtype, shape and data_offsets for tensor 'x'"),
    "item incomplete": (file_of({"x": {"dtype": "U8", "shape": []}}), "no dtype, shape and data_offsets"),
    "one offset": (file_of({"x": {"dtype": "U8", "shape": [1], "data_offsets": [0]}}, b"a"), "no dtype, shape and"),
    "unknown dtype": (file_of({"x": item("F128", [1], 0, 16)}, bytes(16)), "unknown dtype 'F128'"),
    "odd dtype": (file_of({"x": item(["F32"], [1], 0, 4)}, bytes(4)), "unknown dtype"),
    "negative shape": (file_of({"x": item("U8", [-1, -1], 0, 1)}, b"a"), "of shape"),
    "shape of floats": (file_of({"x": item("U8", [1.0], 0, 1)}, b"a"), "of shape"),
    "shape of truths": (file_of({"x": item("U8", [True], 0, 1)}, b"a"), "of shape"),
    "negative offset": (file_of({"x": item("U8", [1], -1, 0)}, b"a"), "at bytes -1 to 0"),
    "offsets reversed": (file_of({"x": item("U8", [1], 1, 0)}, b"a"), "in -1 bytes"),
    "shape and bytes differ": (file_of({"x": item("F32", [2], 0, 4)}, bytes(4)), "F32 [2], in 4 bytes"),
    "half a byte": (file_of({"x": item("F4", [3], 0, 1)}, bytes(1)), "F4 [3], in 1 bytes"),
    "shape without end": (file_of({"x": item("U8", [2**62, 2**62, 2**62], 0, 1)}, b"a"), "in 1 bytes"),
    "overlap": (
        file_of({"x": item("U8", [2], 0, 2), "y": item("U8", [2], 1, 3)}, bytes(3)),
        "'y' which overlaps the one before",
    ),
    "gap": (file_of({"x": item("U8", [1], 0, 1), "y": item("U8", [1], 2, 3)}, bytes(3)), "'y' which leaves a gap"),
    "data cut": (file_of({"x": item("U8", [9], 0, 9)}, bytes(8)), "truncated: its tensors have 9 bytes, of which 8"),
    "data too long": (file_of({"x": item("U8", [9], 0, 9)}, bytes(10)), "1 bytes after its last tensor"),
    "metadata no object": (file_of({"__metadata__": "a"}), "metadata that are not all text"),
    "metadata no text": (file_of({"__metadata__": {"a": 1}}), "metadata that are not all text"),
}


@pytest.mark.parametrize(("contents", "why"), REFUSED.values(), ids=REFUSED.keys())
def test_refused(contents, why, stored):
    path = stored(contents)
    with pytest.raises(ValueError, match=re.escape(why)) as refusal:
        load_safetensors(path)
    assert repr(str(path)) in str(refusal.value)


def test_package_refuses_the_same(stored):
    package = pytest.importorskip("safetensors")
    for name, (contents, _) in REFUSED.items():
        if "floats" not in name:
            with pytest.raises(package.SafetensorError):
                package.safe_open(str(stored(contents)), "np").__enter__()


def test_file_cut_anywhere_is_refused(stored):
    for length in range(len(VALID)):
        with pytest.raises(ValueError, match="truncated|not a safetensors file"):
            load_safetensors(stored(VALID[:length]))


def test_any_damage_is_a_valueerror(stored):
    rng = np.random.default_rng(0)
    outcomes = set()
    for _ in range(200):
        damaged = bytearray(VALID)
        damaged[rng.integers(len(damaged) - 26)] = rng.choice(bytearray(b'\0{}[]",:-.0129eEFU\xff'))
        try:
            load_safetensors(stored(damaged))
            outcomes.add("read")
        except ValueError:
            outcomes.add("refused")
    assert outcomes == {"read", "refused"}


def test_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_safetensors(tmp_path / "none")


# --- writing ------------------------------------------------------------------------------------------


def test_package_reads_what_is_laid_out(stored):
    package = pytest.importorskip("safetensors")
    arrays = {"a": np.arange(6.0).reshape(2, 3), "ü \n": np.arange(3, dtype=np.int8), "empty": np.ones((0, 2))}
    tensors = laid_out([("a", "F64", (2, 3)), ("ü \n", "I8", (3,)), ("empty", "F64", (0, 2))])
    header = encode_header(tensors, {"note": 'with "quotes"'})
    assert len(header) % 8 == 0
    data = b"".join(array.tobytes() for array in arrays.values())
    path = stored(header + data)
    with package.safe_open(str(path), "np") as file:
        assert file.metadata() == {"note": 'with "quotes"'}
        assert set(file.keys()) == set(arrays)
        for name, array in arrays.items():
            np.testing.assert_array_equal(file.get_tensor(name), array)
    assert list(Model(path).tensors.values()) == tensors


def test_header_keeps_the_length_that_was_reserved():
    tensors = laid_out([("a", "F64", (2, 3))])
    reserved = encode_header(tensors, {"a": "0.123456789"})
    shorter = encode_header(tensors, {"a": "0.1"}, length=len(reserved))
    assert len(shorter) == len(reserved)
    assert json.loads(shorter[8:])["__metadata__"] == {"a": "0.1"}


# --- Monarch matrices ---------------------------------------------------------------------------------

DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}


def compressed(dtype="F32", *, entries=None, names=None, shapes=((2, 3, 4, 1), (4, 1, 2, 5)), more=()):
    """Return the factors of w, a 6 × 20 matrix, and a file with them."""
    rng = np.random.default_rng(1)
    parts = [rounded(rng.standard_normal(shape), dtype) for shape in shapes]
    names = names or ("w" + LEFT, "w" + RIGHT)
    items = [*((name, dtype, shape) for name, shape in zip(names, shapes, strict=True)), *more]
    entry = {"shape": [6, 20], "nblocks": [2, 4], "rank": 1, "relative_error": 0.25}
    text = json.dumps({"w": entry} if entries is None else entries)
    contents = encode_header(laid_out(items), {MONARCH: text, "format": "pt"})
    return parts, contents + b"".join(part.tobytes() for part in parts) + bytes(8 * len(more))


@pytest.mark.parametrize("dtype", DTYPES)
def test_monarch_matrix_comes_back(dtype, stored):
    parts, contents = compressed(dtype, more=[("bias", "F64", (1,))])
    found = load_safetensors(stored(contents))
    assert list(found) == ["w", "bias"]
    M = found["w"]
    assert isinstance(M, MonarchMatrix)
    assert M.shape == (6, 20)
    assert M.dtype == ("f8" if dtype == "F64" else "f4")
    assert M.relative_error == 0.25
    left, right = (numbers(part, dtype) for part in parts)
    np.testing.assert_array_equal(M.left, left)
    np.testing.assert_array_equal(M.right, right)
    dense = np.einsum("jlks,ksji->ljki", left, right).reshape(6, 20)
    np.testing.assert_allclose(M.to_dense(), dense, rtol=1e-5, atol=1e-6)


def test_sizes_that_blocks_do_not_divide(stored):
    entry = {"shape": [5, 18], "nblocks": [2, 4], "rank": 1, "relative_error": 0}
    assert load_safetensors(stored(compressed(entries={"w": entry})[1]))["w"].shape == (5, 18)


def test_without_metadata_factors_are_arrays(stored):
    found = load_safetensors(stored(compressed(entries={})[1]))
    assert {name: array.shape for name, array in found.items()} == {
        "w.monarch.left": (2, 3, 4, 1),
        "w.monarch.right": (4, 1, 2, 5),
    }


GOOD = {"shape": [6, 20], "nblocks": [2, 4], "rank": 1, "relative_error": 0.25}
WRONG = {
    "no object": {"entries": [1]},
    "entry no object": {"entries": {"w": [1]}},
    "rank missing": {"entries": {"w": {"shape": [6, 20], "nblocks": [2, 4], "relative_error": 0}}},
    "rank of another": {"entries": {"w": {**GOOD, "rank": 2}}},
    "rank no number": {"entries": {"w": {**GOOD, "rank": "1"}}},
    "blocks of another": {"entries": {"w": {**GOOD, "nblocks": [4, 2]}}},
    "no blocks": {"entries": {"w": {**GOOD, "nblocks": [0, 4]}}},
    "three axes": {"entries": {"w": {**GOOD, "shape": [1, 6, 20]}}},
    "too large": {"entries": {"w": {**GOOD, "shape": [7, 20]}}},
    "error no number": {"entries": {"w": {**GOOD, "relative_error": None}}},
    "error below zero": {"entries": {"w": {**GOOD, "relative_error": -0.1}}},
    "error not a number": {"entries": {"w": {**GOOD, "relative_error": float("nan")}}},
    "no factors": {"entries": {"w": GOOD, "v": GOOD}},
    "right factor missing": {"names": ("w" + LEFT, "w")},
    "tensor there as well": {"more": [("w", "F64", (1,))]},
    "integers": {"dtype": "I32"},
}


@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG.keys())
def test_metadata_that_are_wrong_are_refused(change, stored):
    path = stored(compressed(**change)[1])
    with pytest.raises(ValueError, match="'linalg_ml.monarch'|Monarch matrix '[wv]'"):
        load_safetensors(path)


def test_metadata_that_are_not_json_are_refused(stored):
    path = stored(encode_header([], {MONARCH: "{"}))
    with pytest.raises(ValueError, match="has metadata 'linalg_ml.monarch' that is not JSON"):
        load_safetensors(path)


def test_factor_that_is_not_finite_is_refused(stored):
    contents = bytearray(compressed("F32")[1])
    contents[-4:] = np.float32("nan").tobytes()
    with pytest.raises(ValueError, match="Monarch matrix 'w'"):
        load_safetensors(stored(contents))
