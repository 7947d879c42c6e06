"""The generator of `_core/random.py`: known answers, laws, and the same draw however it is asked for."""

import zlib

import numpy as np
import pytest
from array_api_compat import array_namespace
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from scipy import stats

import linalg_ml
from linalg_ml._core import random
from linalg_ml._core.arrays import to_numpy
from linalg_ml._core.random import Stream, child, key_of, normals, permutation, place, sample, words

DRAWS = 10**6
Z_LIMIT = 5.0
uint32s = st.integers(0, 2**32 - 1)
uint64s = st.integers(0, 2**64 - 1)


@pytest.fixture(params=["auto", "reference"])
def kernels(request):
    with linalg_ml.config_context(kernels=request.param):
        yield


def ids_of(*values):
    return np.array(values, np.uint64)


def philox(counter, key):
    """Philox4x32-10 in Python's integers, from the paper."""
    (c0, c1, c2, c3), (k0, k1) = counter, key
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = p1 >> 32 ^ c1 ^ k0, p1 % 2**32, p0 >> 32 ^ c3 ^ k1, p0 % 2**32
        k0, k1 = (k0 + 0x9E3779B9) % 2**32, (k1 + 0xBB67AE85) % 2**32
    return c0, c1, c2, c3


def z_of(values, mean, variance):
    """Return how many standard errors the mean of independent `values` is off."""
    values = np.asarray(values, np.float64).ravel()
    return (values.mean() - mean) / np.sqrt(variance / values.size)


def z_of_correlation(x, y):
    """Return the same for the correlation of two independent samples."""
    return np.corrcoef(np.ravel(x), np.ravel(y))[0, 1] * np.sqrt(np.size(x))


# --- known answers ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("kernels")
class TestKnownAnswers:
    @pytest.mark.parametrize(
        ("counter", "key", "answer"),
        [
            ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
            ((2**32 - 1,) * 4, (2**32 - 1,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
            (
                (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
                (0xA4093822, 0x299F31D0),
                (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
            ),
        ],
    )
    def test_published(self, counter, key, answer):
        c0, c1, c2, c3 = counter
        drawn = words(key[0] | key[1] << 32, c3, ids_of(c0 | c1 << 32), 4, first=4 * c2)
        assert drawn.dtype == np.uint32
        assert_array_equal(drawn, [answer])
        assert philox(counter, key) == answer

    @pytest.mark.parametrize(
        ("key", "stream", "row", "answer"),
        [
            (0, 0, 0, "1713891541 3781805453 3159862348 2600524760 2219120097 4035800746 253345875 2214098416"),
            (0, 0, 2**40 + 7, "3040650021 3957702773 2873351023 2432644780 3822662316 3030835838 2599194082 782257298"),
            (2**35 + 123, 1, 5, "1142767864 2729688541 585386274 497774396 3519598226 3034766423"),
        ],
    )
    def test_words(self, key, stream, row, answer):
        answer = [int(word) for word in answer.split()]
        assert_array_equal(words(key, stream, ids_of(row), len(answer)), [answer])

    @pytest.mark.parametrize(
        ("key", "t", "answer"),
        [(0, 0, 18031283562658385652), (0, 1, 15137601830257862908), (12345, 7, 6369534772551507369)],
    )
    def test_child(self, key, t, answer):
        assert child(key, t) == answer

    @pytest.mark.parametrize(
        ("key", "use", "answer"), [(0, 0, [0, 5, 4, 1, 7, 2, 6, 3]), (7, 2, [0, 2, 7, 1, 5, 6, 4, 3])]
    )
    def test_permutation(self, key, use, answer):
        assert_array_equal(permutation(key, use, 8), answer)

    @pytest.mark.parametrize(
        ("key", "use", "m", "k", "answer"),
        [
            (0, 1, 5, 1000, [349, 791, 810, 848, 865]),
            (0, 1, 6, 8, [1, 2, 4, 5, 6, 7]),
            (7, 1, 3, 2**40, [30655130381, 417913521499, 626457744245]),
        ],
    )
    def test_sample(self, key, use, m, k, answer):
        assert_array_equal(sample(key, use, m, k), answer)


@pytest.mark.parametrize(("density", "threshold"), [(1 / 3, 715827883), (0.01, 21474836), (1e-3, 2147484), (1, 2**31)])
def test_sparse_threshold(density, threshold):
    assert random.sparse_threshold(density) == threshold


def test_normal_table():
    table = random.normal_table()
    assert zlib.crc32(table.astype("<f4").tobytes()) == 0xE08A77AA
    assert table.dtype == np.float32
    assert not table.flags.writeable
    wide = table.astype(np.float64)
    assert abs(np.mean(wide**2) - 1) < 1e-7
    assert abs(np.mean(wide**4) - 2.9992) < 1e-4
    assert abs(wide.max() - 4.325) < 1e-3


def test_stream_numbers_are_for_ever():
    assert {stream.name: stream.value for stream in Stream} == {
        "ROWS": 0,
        "FEATURES": 1,
        "PROBES": 2,
        "SIGNS": 3,
        "SIGNS_2": 4,
        "GROUPS": 5,
        "SPARSE": 6,
        "GAUSSIAN": 7,
        "STARTS": 8,
        "SELECTIONS": 9,
    }


# --- against Python's integers ------------------------------------------------------------------------


@given(key=uint64s, stream=uint32s, row=uint64s, first=st.integers(0, 2**34 - 20), count=st.integers(1, 17))
@pytest.mark.parametrize("setting", ["auto", "reference"])
def test_words_are_those_of_the_counter(setting, key, stream, row, first, count):
    with linalg_ml.config_context(kernels=setting):
        drawn = words(key, stream, ids_of(row), count, first=first)
    row_halves, key_halves = (row % 2**32, row >> 32), (key % 2**32, key >> 32)
    answer = [philox((*row_halves, c // 4, stream), key_halves)[c % 4] for c in range(first, first + count)]
    assert_array_equal(drawn, [answer])


@given(k=st.integers(2**32 + 1, 2**63), pairs=st.lists(st.tuples(uint32s, uint32s), min_size=1))
def test_wide_integers(k, pairs):
    drawn = random.wide_integers(np.array(pairs, np.uint32).ravel(), k)
    assert [int(x) for x in drawn] == [((high << 32 | low) * k) >> 64 for low, high in pairs]


@given(k=st.integers(1, 2**32), values=st.lists(uint32s, min_size=1))
def test_integers(k, values):
    drawn = random.integers(np.array(values, np.uint32), k)
    assert [int(x) for x in drawn] == [value * k >> 32 for value in values]


@given(key=uint64s, use=st.integers(0, 2**32), k=st.integers(1, 300), part=st.floats(0, 1))
def test_sample_is_a_sorted_set(key, use, k, part):
    m = round(part * k)
    chosen = sample(key, use, m, k)
    assert chosen.dtype == np.int64
    assert chosen.shape == (m,)
    assert np.all(np.diff(chosen) > 0)
    assert m == 0 or (chosen[0] >= 0 and chosen[-1] < k)
    assert_array_equal(np.sort(permutation(key, use, k)), np.arange(k))


@given(density=st.floats(1e-6, 1), values=st.lists(uint32s, min_size=1))
def test_sparse_entries(density, values):
    threshold = random.sparse_threshold(density)
    for word, entry in zip(values, random.sparse_entries(np.array(values, np.uint32), density), strict=True):
        if word >> 1 < threshold:
            assert entry == (-1) ** (word & 1) * (2**31 / threshold) ** 0.5
        else:
            assert entry == 0
            assert not np.signbit(entry)


# --- seeds --------------------------------------------------------------------------------------------


class TestKeys:
    @pytest.mark.parametrize("rng", [0, 5, 2**64 - 1, np.int32(5), np.uint64(2**63)])
    def test_integers_are_their_own_key(self, rng):
        assert key_of(rng) == int(rng)

    def test_integers_beyond_64_bits(self):
        assert key_of(2**64 + 3) == 3

    def test_generator_advances(self):
        rng, same = np.random.default_rng(3), np.random.default_rng(3)
        keys = [key_of(rng), key_of(rng)]
        assert keys == same.integers(0, 2**64, size=2, dtype=np.uint64).tolist()
        assert keys[0] != keys[1]

    def test_none_is_fresh_entropy(self):
        assert key_of(None) != key_of(None)

    def test_random_state_is_of_estimators(self):
        state, same = np.random.RandomState(3), np.random.RandomState(3)
        assert key_of(state, "random_state") == same.randint(0, 2**64, dtype=np.uint64)
        with pytest.raises(TypeError, match=r"rng must be None, an integer ≥ 0 or a numpy.random.Generator"):
            key_of(state)

    @pytest.mark.parametrize("rng", [True, np.True_, 1.0, "1", [1], np.array([1]), 2j])
    def test_wrong_types(self, rng):
        with pytest.raises(TypeError, match=r"rng must be .* got "):
            key_of(rng)

    @pytest.mark.parametrize("rng", [-1, np.int64(-5)])
    def test_negative(self, rng):
        with pytest.raises(ValueError, match=r"random_state must be .* got -"):
            key_of(rng, "random_state")

    def test_children_differ(self):
        children = {child(key, t) for key in (0, 1, 2**64 - 1) for t in range(100)}
        assert len(children) == 300

    def test_generator_of_a_child(self):
        drawn = random.generator(5, 2).random(4)
        assert_array_equal(drawn, np.random.Generator(np.random.Philox(key=child(5, 2))).random(4))


def test_global_state_is_untouched():
    def state():
        return np.random.get_state()[1:3]  # noqa: NPY002 - the point of this test

    before = state()
    key_of(None)
    normals(0, Stream.GAUSSIAN, range(50), 3, to=np.empty(0))
    sample(0, 0, 5, 100)
    random.generator(0, 0).random()
    assert_array_equal(before[0], state()[0])
    assert before[1] == state()[1]


# --- the same draw however it is asked for ------------------------------------------------------------


@pytest.mark.usefixtures("kernels")
class TestAddressing:
    def test_permuted_ids_permute_rows(self):
        ids = np.random.default_rng(0).permutation(100).astype(np.uint64)
        assert_array_equal(words(7, 1, ids, 5), words(7, 1, range(100), 5)[ids])

    @pytest.mark.parametrize("cut", [1, 3, 4, 33])
    def test_blocks_equal_the_whole(self, cut):
        whole = normals(7, Stream.GAUSSIAN, range(100), 40, to=np.empty(0))
        rows = [normals(7, Stream.GAUSSIAN, range(i, min(i + cut, 100)), 40, to=whole) for i in range(0, 100, cut)]
        assert_array_equal(np.concatenate(rows), whole)
        columns = [
            normals(7, Stream.GAUSSIAN, range(100), min(cut, 40 - j), first=j, to=whole) for j in range(0, 40, cut)
        ]
        assert_array_equal(np.concatenate(columns, axis=1), whole)

    def test_ranges_with_a_step(self):
        assert_array_equal(words(7, 1, range(90, 10, -3), 2), words(7, 1, range(100), 2)[90:10:-3])

    @pytest.mark.parametrize("divisor", [1.0, 3.7])
    def test_float32_is_rounded_float64(self, divisor):
        single = normals(1, 7, range(50), 9, divisor=divisor, to=np.empty(0, np.float32))
        double = normals(1, 7, range(50), 9, divisor=divisor, to=np.empty(0))
        assert single.dtype == np.float32
        assert double.dtype == np.float64
        assert_array_equal(single, double.astype(np.float32))
        assert_array_equal(double, normals(1, 7, range(50), 9, to=np.empty(0)) / divisor)


@pytest.mark.parametrize(
    ("dtype", "real"),
    [("float32", "float32"), ("float64", "float64"), ("complex64", "float32"), ("complex128", "float64")],
)
def test_normals_in_every_namespace(xp, dtype, real):
    to = xp.zeros((2, 2), dtype=getattr(xp, dtype))
    drawn = normals(3, Stream.PROBES, range(10), 4, first=1, divisor=2.0, to=to)
    assert array_namespace(drawn) is array_namespace(to)
    assert drawn.dtype == getattr(xp, real)
    assert_array_equal(
        to_numpy(drawn), normals(3, Stream.PROBES, range(10), 4, first=1, divisor=2.0, to=np.empty(0, real))
    )


def test_place_in_every_namespace(xp):
    to = xp.zeros(1)
    placed = place(np.array([1, -1], np.int8), to, "float32")
    assert array_namespace(placed) is array_namespace(to)
    assert placed.dtype == xp.float32
    assert_array_equal(to_numpy(placed), np.array([1, -1], np.float32))


def test_from_words_to_numbers_in_every_namespace(xp):
    drawn = words(5, 1, range(20), 3)
    if "torch" in xp.__name__:
        pytest.skip("PyTorch lacks unsigned arithmetic: its numbers are drawn on the host")
    there = xp.asarray(drawn)
    for function in (
        random.signs,
        random.uniforms,
        lambda w: random.integers(w, 1000),
        lambda w: random.sparse_entries(w, 0.3),
    ):
        expected, got = function(drawn), to_numpy(function(there))
        assert got.dtype == expected.dtype
        assert_array_equal(got, expected)


# --- laws ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def million():
    """Give words of rows by columns."""
    return words(2024, Stream.ROWS, range(DRAWS // 8), 8)


class TestLaws:
    def test_signs(self, million):
        assert abs(z_of(random.signs(million), 0, 1)) < Z_LIMIT

    def test_uniforms(self, million):
        u = random.uniforms(million)
        assert u.min() > 0
        assert u.max() < 1
        for power in (1, 2, 4):
            mean = 1 / (power + 1)
            assert abs(z_of(u**power, mean, 1 / (2 * power + 1) - mean**2)) < Z_LIMIT

    def test_every_bit(self, million):
        for bit in range(32):
            assert abs(z_of(million >> bit & 1, 0.5, 0.25)) < Z_LIMIT

    @pytest.mark.parametrize("k", [2, 10, 1000])
    def test_integers(self, million, k):
        counts = np.bincount(random.integers(million, k).ravel().astype(np.int64), minlength=k)
        assert counts.size == k
        assert 1e-6 < stats.chisquare(counts).pvalue < 1 - 1e-6

    @pytest.mark.parametrize("density", [1.0, 1 / 3, 0.01])
    def test_sparse(self, million, density):
        entries = random.sparse_entries(million, density)
        kept = random.sparse_threshold(density) / 2**31
        assert abs(z_of(entries, 0, 1)) < Z_LIMIT
        assert density == 1 or abs(z_of(entries != 0, kept, kept * (1 - kept))) < Z_LIMIT
        assert density < 1 or np.all(np.abs(entries) == 1)

    def test_normals(self):
        x = normals(2024, Stream.GAUSSIAN, range(DRAWS // 8), 8, to=np.empty(0))
        table = random.normal_table().astype(np.float64)
        for power in (1, 2, 3, 4):
            mean = 0 if power % 2 else np.mean(table**power)
            assert abs(z_of(x**power, mean, np.mean(table ** (2 * power)) - mean**2)) < Z_LIMIT
        assert stats.kstest(x.ravel()[:20000], "norm").pvalue > 1e-6

    @pytest.mark.parametrize("what", ["ids", "columns", "keys", "far keys", "streams", "children"])
    def test_no_correlation(self, what):
        n = DRAWS // 4
        shape = {"count": 4, "to": np.empty(0)}
        key, stream = 11, Stream.GAUSSIAN
        x = normals(key, stream, range(n), **shape)
        y = {
            "ids": lambda: np.roll(x, 1, axis=0),
            "columns": lambda: np.roll(x, 1, axis=1),
            "keys": lambda: normals(key + 1, stream, range(n), **shape),
            "far keys": lambda: normals(key + 2**32, stream, range(n), **shape),
            "streams": lambda: normals(key, Stream.PROBES, range(n), **shape),
            "children": lambda: normals(child(key, 0), stream, range(n), **shape),
        }[what]()
        assert abs(z_of_correlation(x, y)) < Z_LIMIT
        assert abs(z_of_correlation(x**2, y**2)) < Z_LIMIT

    def test_samples_are_uniform(self):
        k, m, rounds = 20, 3, 4000
        counts = np.bincount(np.concatenate([sample(3, use, m, k) for use in range(rounds)]), minlength=k)
        # Of a sample without replacement a number's count is binomial, and the counts sum to m · rounds.
        scaled = (counts - rounds * m / k) ** 2 / (rounds * m / k * (1 - m / k)) * (1 - 1 / k)
        assert stats.chi2.sf(scaled.sum(), k - 1) > 1e-6

    def test_permutations_are_uniform(self):
        places = np.array([permutation(3, use, 6) for use in range(3000)])
        for column in places.T:
            assert stats.chisquare(np.bincount(column, minlength=6)).pvalue > 1e-6
