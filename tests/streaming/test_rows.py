"""Rows as they come: what is refused leaves the state as it was, to the bit."""

import pickle

import numpy as np
import pytest
from scipy import sparse
from streaming.streams import spiked, state

from linalg_ml.streaming import TopEigenvectorStream, top_eigenvector
from linalg_ml.streaming._order import OrderTest

METHODS = ["subspace", "random-order", "oja", "frequent-directions", "exact"]
X = spiked(2000, 250, 20, 77, np.float64)
SMALL, LARGE = slice(500, 520), slice(500, 1900)  # below and above the size that is looked at first


def refuse(stream, error, match, block, **more):
    before = state(stream)
    with pytest.raises(error, match=match):
        stream.update(block, **more)
    assert state(stream) == before


@pytest.mark.parametrize("center", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_rows_that_are_not_finite(method, center):
    for seen in (0, 20, 500):  # a fresh stream, one without a shift, one under way
        stream = TopEigenvectorStream(method=method, center=center, rng=0).update(X[:seen])
        for part, places in ((SMALL, (0, 19)), (LARGE, (0, 1399))):
            for place in places:
                for value in (np.nan, -np.inf)[: 1 + (place == 0)]:
                    block = X[part].copy()
                    block[place, 249] = value
                    block[-1, 3] = value
                    refuse(stream, ValueError, f"in row {seen + place}$", block)
                    refuse(stream, ValueError, f"in row {seen + place}$", sparse.csr_array(block)) if not seen else None
        whole = TopEigenvectorStream(method=method, center=center, rng=0).update(X[:seen]).update(X[LARGE])
        assert pickle.dumps(stream.update(X[LARGE]).result()) == pickle.dumps(whole.result())


def test_sparse_rows_that_are_not_finite():
    rows = sparse.csr_array(np.where(X > 1, X, 0))
    stream = TopEigenvectorStream(rng=0).update(rows[:500])
    for part in (SMALL, LARGE):
        block = rows[part].toarray()
        block[13, 5] = np.nan
        refuse(stream, ValueError, "in row 513", sparse.csr_array(block))


def test_numbers_beyond_the_dtype_of_the_stream():
    stream = TopEigenvectorStream(rng=0).update(X[:500].astype(np.float32))
    for part in (SMALL, LARGE):
        block = X[part].copy()
        block[13, 5] = 1e300
        with np.errstate(over="ignore"):
            refuse(stream, ValueError, "in row 513", block)


@pytest.mark.parametrize("part", [SMALL, LARGE])
def test_widths(part):
    stream = TopEigenvectorStream(rng=0).update(X[:500])
    refuse(stream, ValueError, "250 columns.*249", X[part, :249])
    refuse(stream, ValueError, "250 columns", X[0, :249])
    refuse(stream, ValueError, "250 columns", sparse.csr_array(X[part, :249]))
    refuse(stream, ValueError, "block", X[None, part])
    refuse(stream, ValueError, "block", np.float64(3))
    with pytest.raises(ValueError, match="251 columns"):
        TopEigenvectorStream(251).update(X)
    with pytest.raises(ValueError, match="block"):
        TopEigenvectorStream().update(np.empty((5, 0)))


@pytest.mark.parametrize("part", [SMALL, LARGE])
@pytest.mark.parametrize("dtype", [complex, object, str, "datetime64[s]"])
def test_what_is_no_real_number(part, dtype):
    stream = TopEigenvectorStream(rng=0).update(X[:500])
    block = X[part].astype(np.int64).astype(dtype)
    refuse(stream, TypeError, "block", block)
    refuse(stream, TypeError, "block", "rows")


@pytest.mark.parametrize("part", [SMALL, LARGE])
def test_weights(part):
    stream = TopEigenvectorStream(rng=0).update(X[:500])
    n = X[part].shape[0]
    weights = np.ones(n)
    weights[3] = -1
    refuse(stream, ValueError, "negative", X[part], sample_weight=weights)
    weights[3] = np.nan
    refuse(stream, ValueError, "sample_weight", X[part], sample_weight=weights)
    weights[3] = 1e80
    refuse(stream, ValueError, "between 8e-31 and 1e\\+30", X[part], sample_weight=weights)
    refuse(stream, ValueError, "one number a row", X[part], sample_weight=np.ones(n + 1))
    refuse(stream, ValueError, "sample_weight", X[part], sample_weight=np.ones((n, 1)))
    refuse(stream, TypeError, "sample_weight", X[part], sample_weight=np.full(n, "a"))


@pytest.mark.parametrize("part", [slice(500, 600), LARGE])
def test_interrupted_in_the_middle(part, monkeypatch):
    # Whatever happens while a block is taken: it is taken as a whole, or not at all.
    stream = TopEigenvectorStream(method="subspace", rng=0).update(X[:500])
    calls, add = [], OrderTest.add

    def interrupt(self, energies):
        calls.append(energies)
        if len(calls) == (2 if part == LARGE else 1):
            raise KeyboardInterrupt
        return add(self, energies)

    before = state(stream)
    monkeypatch.setattr(OrderTest, "add", interrupt)
    with pytest.raises(KeyboardInterrupt):
        stream.update(X[part])
    assert state(stream) == before


# --- of generators ----------------------------------------------------------------------------------------


def blocks_that_vanish(height=100):
    """Yield blocks in one buffer that is spoilt after each."""
    buffer = np.empty((height, 250))
    for start in range(0, 2000, height):
        rows = X[start : start + height]
        buffer[: len(rows)] = rows
        yield buffer[: len(rows)]
        buffer[:] = np.nan


@pytest.mark.parametrize("height", [1, 37, 100, 700, 2000])
@pytest.mark.parametrize("center", [False, True])
def test_one_shot_generators(height, center):
    expected = top_eigenvector(X, center=center, method="subspace", rng=0)
    result = top_eigenvector(blocks_that_vanish(height), center=center, method="subspace", rng=0)
    assert result.vector.tobytes() == expected.vector.tobytes()
    assert (result.value, result.error) == (expected.value, expected.error)


def test_iterables_of_all_kinds():
    expected = top_eigenvector(X, rng=0)
    kinds = {
        "rows": iter(X),
        "lists": (row.tolist() for row in X),
        "blocks of many heights": np.split(X, [1, 2, 300, 300, 1999]),
        "rows and blocks": [X[0], X[1:900], X[900], X[901:]],
    }
    for rows in kinds.values():
        assert top_eigenvector(rows, rng=0).vector.tobytes() == expected.vector.tobytes()


def test_errors_of_generators():
    def fails():
        yield X[:300]
        raise ZeroDivisionError("in the caller's generator")

    def spoilt():
        yield X[:300]
        block = X[300:600].copy()
        block[7] = np.inf
        yield block

    def ragged():
        yield X[:300]
        yield X[300:, :100]

    with pytest.raises(ZeroDivisionError, match="in the caller's generator"):
        top_eigenvector(fails())
    with pytest.raises(ValueError, match="row 307"):
        top_eigenvector(spoilt())
    with pytest.raises(ValueError, match="250"):
        top_eigenvector(ragged())
    for empty in ((), iter([]), np.empty((0, 5)), [np.empty((0, 5))], sparse.csr_array((0, 5))):
        with pytest.raises(ValueError, match="at least one row|empty|rows"):
            top_eigenvector(empty)
