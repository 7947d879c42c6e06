"""TopEigenvectorStream: the state of a stream, from its first row to an answer at any time."""

import math
import os
import warnings
from dataclasses import asdict, replace
from functools import lru_cache
from typing import Any, Self

import numpy as np

from .._core.arrays import Array, cast, check_int, compute_dtype, like, namespace
from .._core.random import RNG, key_of
from .._core.rows import stacked
from . import _checkpoint
from ._blocks import LARGE, Block, is_csr, weighed
from ._centring import Centring
from ._certified import Frequent
from ._exact import Exact
from ._frequent import Directions
from ._intake import Intake
from ._kernels import shifted_rows
from ._memory import bytes_of
from ._oja import Oja
from ._order import OrderTest
from ._random_order import RandomOrder
from ._result import TopEigenvectorResult
from ._rows import check_rows, check_stream_finite, check_weights, leading_exponent, library_of
from ._settings import Plan, Settings, check_settings, plan
from ._subspace import Subspace, Window

_BESIDE = 8  # rows of the sketch that runs beside 'oja'
_CHUNK = 2**20  # bytes of rows whose norms are formed before they are multiplied: a share of the second-level cache
_FLOW = 2**24  # bytes of rows that are taken at once where nothing is out of the ordinary
_THREADED = 5e7  # bytes of a block times directions, from which on several threads share it
_FAR = 2.0**400  # a squared norm beyond this asks for another scale
_CLASSES = (Block, Centring, Directions, Exact, Frequent, Intake, Oja, OrderTest, RandomOrder, Subspace, Window)


class TopEigenvectorStream:
    """Leading eigenvectors of AᵀA for rows that arrive one after the other, in memory that does not grow.

    Parameters
    ----------
    n_features : int, optional
        Width d of the rows; by default that of the first.
    n_components : int, default 1
        Number k of directions asked for.
    method : {"auto", "subspace", "random-order", "oja", "frequent-directions", "exact"}, default "auto"
        As in `top_eigenvector`.
    order : {"random", "arbitrary"}, default "random"
        "arbitrary": Frequent Directions run beside, and answer where they certainly hold more energy, or err
        less than "subspace" claims.
    center : bool, default False
        Take rows about their mean, as PCA does; exact in one pass.
    n_oversamples : int, default 7
        Directions tracked beyond k.
    block_size : int, default 128
        Rows B of a block. Part of the definition: the result depends on it, not on how rows arrive.
    max_heavy : int, default 64
        Rows H of largest norm that are kept aside.
    max_memory : int, optional
        Bytes of state allowed; fewer rows are kept then.
    rng : None, int or numpy.random.Generator, optional
        Random directions where data give none.
    forget : float in (0, 1], default 1.0
        Weight of a block relative to the next: less than one follows a drifting stream. The result is stated for weight
        one in the newest block.

    Attributes
    ----------
    n_rows : int
        Rows seen.
    n_features : int or None
        Width of the rows.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range.

    See Also
    --------
    top_eigenvector : the same for data at hand.
    StreamingPCA : the scikit-learn estimator.

    Notes
    -----
    State: (3l + H + B + 14) d numbers for l = k + `n_oversamples`, or d² where "exact" is chosen. Any cut of the stream
    into blocks, and any stop with `save` and `load`, gives the same bits.

    Examples
    --------
    >>> import numpy as np
    >>> from linalg_ml.streaming import TopEigenvectorStream
    >>> rows = np.random.default_rng(0).standard_normal((5000, 300)) * np.append(3.0, np.ones(299))
    >>> stream = TopEigenvectorStream(rng=0)
    >>> for start in range(0, 5000, 700):
    ...     stream = stream.update(rows[start : start + 700])
    >>> result = stream.result()
    >>> bool(abs(result.vector[0]) > 0.99), stream.n_rows
    (True, 5000)
    """

    def __init__(
        self,
        n_features: int | None = None,
        *,
        n_components: int = 1,
        method: str = "auto",
        order: str = "random",
        center: bool = False,
        n_oversamples: int = 7,
        block_size: int = 128,
        max_heavy: int = 64,
        max_memory: int | None = None,
        rng: RNG = None,
        forget: float = 1.0,
    ):
        self._settings = check_settings(
            n_components=n_components, method=method, order=order, center=center, n_oversamples=n_oversamples,
            block_size=block_size, max_heavy=max_heavy, max_memory=max_memory, forget=forget,
        )  # fmt: skip
        self._key = key_of(rng)
        self.n_features = None if n_features is None else check_int(n_features, "n_features")
        self.n_rows = 0
        self._n_pushed = 0
        self._dtype = ""
        self._empty: Any = np.empty((0, 0))  # of the library and on the device of the rows
        self._plan: Plan | None = None
        self._engine: Any = None
        self._intake = Intake(1, 0)
        self._beside: Frequent | None = None
        self._beside_intake = Intake(1, 0)
        self._order = OrderTest()
        self._held: list[Any] = []  # rows that wait, as they came, until they fill a block
        self._held_weights: list[np.ndarray] = []
        self._room: np.ndarray | None = None  # the same for NumPy's rows of weight one: the first of it are in use
        self._shift: Any = None
        self._exponent: int | None = None  # rows are multiplied by 2**-exponent
        self._total = 0.0  # weight of all rows pushed
        self._faded = 0  # and, if the stream forgets, by 2**-faded beyond their weight
        if self.n_features is not None:
            plan(self._settings, self.n_features)

    def __repr__(self) -> str:
        width = "?" if self.n_features is None else self.n_features
        method = self._settings.method if self._plan is None else self._plan.method
        return f"<TopEigenvectorStream of {method!r}, {self.n_rows} rows of {width}>"

    # --- rows in --------------------------------------------------------------------------------------

    def update(self, block: Any, sample_weight: Any = None) -> Self:
        """Take in rows.

        Parameters
        ----------
        block : array, memmap or CSR matrix, shape (b, d) or (d,)
            The next rows, any number of them; never written to, and not kept.
        sample_weight : array, shape (b,), optional
            Weights ≥ 0: a row of weight w counts as w equal rows.

        Returns
        -------
        self : TopEigenvectorStream
            This object.

        Raises
        ------
        ValueError
            If the width is wrong, or a number is not finite (its row is named, counted over the stream from 0); the
            state is then as before, to the bit.
        TypeError
            If these are no real numbers.
        """
        if sample_weight is None and self._taken(block):
            return self
        rows = check_rows(block, "block", self.n_features, self.n_rows, finite=False)
        if rows is None:
            return self
        weights = check_weights(sample_weight, rows.shape[0])
        if self._engine is not None:
            self._check_library(rows)
        small = is_csr(rows) or rows.shape[0] * rows.shape[1] <= _CHUNK // 8
        if small:  # looked at before it is taken
            rows = self._converted(rows)
            check_stream_finite(rows, "block", self.n_rows)
        before = self._shared()
        try:
            self._take(rows, weights, seen=small)
        except BaseException:
            self.__dict__ = before.__dict__
            raise
        return self

    def _taken(self, block: Any) -> bool:
        """Take a few rows the quick way if all is as before, nothing is wrong with them, and they only have to wait."""
        room = self._room
        if room is None or type(block) is not np.ndarray or block.dtype != room.dtype or not block.size:
            return False
        if block.shape[-1] != self.n_features or block.ndim not in (1, 2):
            return False
        start = self.n_rows - self._n_pushed
        stop = start + (block.shape[0] if block.ndim == 2 else 1)
        if stop >= room.shape[0] or not math.isfinite(np.vdot(block, block)):
            return False
        room[start:stop] = block
        self.n_rows = self._n_pushed + stop
        return True

    def _check_library(self, rows: Array) -> None:
        """Raise a ValueError if rows are not of the kind of those before: nothing is copied to where it was not."""
        ours, theirs = library_of(self._empty, self._sparse), library_of(rows, is_csr(rows))
        if ours != theirs:
            raise ValueError(f"block must be like the rows before it, {ours}, got {theirs}")

    @property
    def _sparse(self) -> bool:
        return self._empty.shape[1] == 0

    def _take(self, rows: Array, weights: np.ndarray | None, seen: bool) -> None:
        """Push rows in portions that end where a block of light rows ends; what is left over waits, as it came.

        Unless rows were `seen` to be finite, they are looked at where they wait; those that are pushed always are.
        """
        if self._engine is None:
            self._begin(self._converted(rows[:1, :]))
        at, end = 0, rows.shape[0]
        while at < end:
            needed = self._until_push() - (self.n_rows - self._n_pushed)
            if self.n_rows > self._n_pushed or end - at < needed:
                stop = min(end, at + needed)
                part = self._converted(rows[at:stop, :])
                if not seen:
                    check_stream_finite(part, "block", self.n_rows)
                self._hold(part, None if weights is None else weights[at:stop])
            else:
                stop = at + needed + self._more(rows, end - at - needed)
                part = self._converted(rows[at:stop, :])
                self._push(part, None if weights is None else weights[at:stop])
                self.n_rows += stop - at
            at = stop

    def _converted(self, rows: Array) -> Array:
        """Return rows in the dtype of the stream, or of the first of it."""
        return cast(rows, self._dtype or compute_dtype(rows.dtype, "block", complex_ok=False))

    def _until_push(self) -> int:
        """Return how many rows are pushed at once: those of the shift, then what fills a block."""
        finding = self._settings.center and self._shift is None
        return self._intake.block_size if finding else self._intake.until_full()

    def _more(self, rows: Array, left: int) -> int:
        """Return how many rows beyond a block to take at once: whole blocks that stay in cache."""
        if self._settings.forget < 1 or (self._settings.center and self._shift is None):
            return 0  # one block at a time, so that the state fades at the same rows whatever the portions
        block = self._intake.block_size
        whole = type(rows) is np.ndarray and rows.dtype == self._dtype and rows.flags.c_contiguous
        chunk = _FLOW if whole and self._flows(rows) else _CHUNK
        most = 16 * block if is_csr(rows) else chunk // (rows.shape[1] * np.dtype(self._dtype).itemsize)
        return max(0, min(left, most - block)) // block * block

    def _begin(self, rows: Array) -> None:
        """Choose sizes and make the state, for rows like these."""
        d = rows.shape[1]
        chosen = plan(self._settings, d)
        self.n_features, self._plan, self._dtype = d, chosen, str(rows.dtype).rpartition(".")[2]
        values = np.empty((0, 0), self._dtype) if is_csr(rows) else rows[:0, :]
        self._empty = namespace(values).asarray(values, copy=True)
        self._intake = Intake(chosen.block_size, chosen.max_heavy)
        center, size = self._settings.center, chosen.size
        self._engine = {
            "subspace": lambda: Subspace(d, size, self._key, center, self._settings.forget < 1),
            "random-order": lambda: RandomOrder(d, size, self._key, center),
            "oja": lambda: Oja(d, self._key, Centring(center), Directions(_BESIDE)),
            "frequent-directions": lambda: Frequent(d, Centring(center), Directions(chosen.n_sketch)),
            "exact": lambda: Exact(d, center),
        }[chosen.method]()
        if self._settings.order == "arbitrary" and chosen.method == "subspace":
            self._beside = Frequent(d, Centring(center), Directions(chosen.n_sketch))
            self._beside_intake = Intake(chosen.block_size, 0)

    def _hold(self, rows: Array, weights: np.ndarray | None) -> None:
        """Keep rows until they fill a block."""
        start, n = self.n_rows - self._n_pushed, rows.shape[0]
        if weights is None and isinstance(rows, np.ndarray) and not self._held:
            if self._room is None:
                self._room = np.empty((self._until_push(), rows.shape[1]), rows.dtype)
            self._room[start : start + n] = rows
        else:
            self._leave_room()
            self._held.append(rows.copy() if is_csr(rows) else namespace(rows).asarray(rows, copy=True))
            self._held_weights.append(np.ones(n) if weights is None else weights)
        self.n_rows += n
        if self.n_rows - self._n_pushed == self._until_push():
            self._release()

    def _leave_room(self) -> None:
        """Put rows that wait into the list that takes any."""
        room, self._room = self._room, None
        n = self.n_rows - self._n_pushed
        if room is not None and n:
            self._held, self._held_weights = [room[:n].copy()], [np.ones(n)]

    def _release(self) -> None:
        """Push the rows that were held."""
        room, self._room = self._room, None  # never written to again: a stream that shares it may need it
        if self._held:
            rows, weights = stacked(self._held), np.concatenate(self._held_weights)
            self._held, self._held_weights = [], []
            self._push(rows, weights if (weights != 1).any() else None)
        elif room is not None and self.n_rows > self._n_pushed:
            self._push(room[: self.n_rows - self._n_pushed], None)
            if self._until_push() == room.shape[0]:
                self._room = np.empty_like(room)

    def _find_shift(self, rows: Array) -> None:
        """Take the mean of the first rows as the shift."""
        ones = np.ones(rows.shape[0])
        self._shift = Block(rows * math.ldexp(1.0, -(self._exponent or 0)), ones, ones).mean()

    def _find_scale(self, rows: Array) -> None:
        """Let the first row that is not zero choose the scale."""
        if self._exponent is None:
            found = leading_exponent(rows, 100 if self._dtype == "float64" else 20)
            self._exponent = None if found is None else self._scalable(found)

    def _scalable(self, exponent: int) -> int:
        """Return the nearest exponent of which 2**exponent and 2**-exponent are numbers of the dtype."""
        most = 1000 if self._dtype == "float64" else 120
        return min(max(exponent, -most), most)

    def _push(self, rows: Array, weights: np.ndarray | None) -> None:
        """Push rows: whole blocks of them at once while nothing is out of the ordinary."""
        block = self._intake.block_size
        while weights is None and rows.shape[0] >= block and self._flows(rows):
            rows = self._run(rows)
            if rows.shape[0]:
                self._push_through(rows[:block, :], None)
                rows = rows[block:, :]
        if rows.shape[0]:
            self._push_through(rows, weights)

    def _flows(self, rows: Array) -> bool:
        """Tell whether rows need neither scale, weight, sketch nor threads, and nothing is waiting before them."""
        engine, intake = self._engine, self._intake
        return (
            isinstance(engine, Subspace) and engine.V is not None and isinstance(rows, np.ndarray)
            and self._exponent == 0 and self._settings.forget == 1 and self._beside is None
            and intake.filled == 0 and len(intake.heavy) == intake.max_heavy
            and intake.block_size * rows.shape[1] * rows.dtype.itemsize * engine.size < _THREADED
            and (not intake.heavy or intake.stacked() is not None)
        )  # fmt: skip

    def _run(self, rows: Array) -> Array:
        """Take in whole blocks, and return the rows from the first one on that is out of the ordinary."""
        block, limit = self._intake.block_size, _FAR if self._dtype == "float64" else LARGE
        while rows.shape[0] >= block:
            asked = min(rows.shape[0] // block, self._engine.until_window - 1)
            if not asked:  # a window opens, and more than a step is due
                break
            energies = self._engine.run(rows[: asked * block, :], self._shift, self._intake, self._n_pushed, limit)
            self._order.add(energies)
            self._n_pushed += energies.size
            self._total += energies.size
            rows = rows[energies.size :, :]
            if energies.size < asked * block:
                break
        return rows

    def _push_through(self, rows: Array, weights: np.ndarray | None) -> None:
        """Bring rows to the working scale, shift and weight, and hand them to the intake."""
        self._find_scale(rows)
        if self._settings.center and self._shift is None:
            self._find_shift(rows)
        first, n = self._n_pushed, rows.shape[0]
        block = self._working(rows)
        if not block.energies.max() <= _FAR:  # or it is no number
            check_stream_finite(rows, "block", first)
            if n > self._until_push():  # one block at a time, so that the scale does not depend on the portions
                self._push_blocks(rows, weights)
                return
            self._rescale(rows)
            block = self._working(rows)
        self._order.add(block.energies)
        roots = self._roots(first, n, weights)
        self._count(n, roots)
        if roots is not None:
            factors = roots.astype(self._dtype)
            weighted = (
                block.rows.multiply(factors[:, None]).tocsr()
                if is_csr(block.rows)
                else (block.rows * like(factors, block.rows)[:, None])
            )
            block = replace(block, rows=weighted, energies=block.energies * roots**2, roots=roots)
        self._n_pushed += n
        self._intake.push(block, first, self._consume)
        if self._beside is not None:
            self._beside_intake.push(block, first, self._beside.add)

    def _consume(self, block: Block) -> None:
        """Take in light rows."""
        self._engine.add(block)
        if isinstance(self._engine, Subspace):
            self._engine.learn(self._intake)

    def _count(self, n: int, roots: np.ndarray | None) -> None:
        """Add up weights, those of a block by themselves, so that the bits do not depend on the portions."""
        if roots is None:
            self._total += n
            return
        block = self._intake.block_size
        for start in range(-(-n // block) * -block + n, n, block):
            part = roots[max(start, 0) : start + block]
            self._total += float(np.dot(part, part))

    def _push_blocks(self, rows: Array, weights: np.ndarray | None) -> None:
        at = 0
        while at < rows.shape[0]:
            stop = min(rows.shape[0], at + self._until_push())
            self._push_through(rows[at:stop, :], None if weights is None else weights[at:stop])
            at = stop

    def _working(self, rows: Array) -> Block:
        factor = math.ldexp(1.0, -(self._exponent or 0))
        if factor != 1:
            with np.errstate(over="ignore"):  # rows far above those before: another scale is chosen for them
                rows = rows * factor
        ones = _ones(rows.shape[0])
        if is_csr(rows):
            return weighed(rows, ones, self._shift)
        if self._shift is not None:
            moved, energies = shifted_rows(rows, self._shift)
            return Block(moved, energies, ones)
        return weighed(rows, ones)

    def _rescale(self, rows: Array) -> None:
        """Choose a new scale for rows far above those seen, and bring the state to it."""
        xp = namespace(rows.data if is_csr(rows) else rows)
        peak = float(xp.max(xp.abs(rows.data if is_csr(rows) else rows)))
        self._raise_exponent(self._scalable(math.frexp(peak)[1]) - (self._exponent or 0))

    def _raise_exponent(self, step: int) -> None:
        """Bring the state to a scale larger by 2**step."""
        self._exponent = (self._exponent or 0) + step
        while step > 0:
            factor = math.ldexp(1.0, -min(step, 500))  # squares of it are numbers
            self._scale_state(factor)
            self._order.scale(factor)
            if self._shift is not None:
                self._shift = self._shift * factor
            step -= 500

    def _scale_state(self, factor: float, root: float = 1.0) -> None:
        self._total *= root**2
        for intake, engine in ((self._intake, self._engine), (self._beside_intake, self._beside)):
            if engine is not None:
                engine.scale(factor, root)
                intake.scale(factor, root)

    def _roots(self, first: int, n: int, weights: np.ndarray | None) -> np.ndarray | None:
        """Return square roots of the weights of rows, what is forgotten included, or None if all are one."""
        roots = None if weights is None else np.sqrt(weights)
        if self._settings.forget == 1:
            return roots
        ages = (first + np.arange(n)) // self._intake.block_size
        growth = -0.5 * ages * math.log2(self._settings.forget)
        most = 100 if self._dtype == "float64" else 10  # far from where float32 rows are multiplied in float64
        while growth[-1] - self._faded > most:
            self._faded += most
            self._scale_state(1.0, math.ldexp(1.0, -most))
        whole = np.floor(growth)  # apart, so that the bits do not depend on when the state was scaled
        fading = np.ldexp(np.exp2(growth - whole), whole.astype(np.int64) - self._faded)
        return fading if roots is None else roots * fading

    # --- an answer out --------------------------------------------------------------------------------

    def result(self) -> TopEigenvectorResult:
        """Return the answer for the rows seen so far; the stream can go on, and is as before.

        Returns
        -------
        result : TopEigenvectorResult
            Directions, values and their errors.

        Raises
        ------
        NotFittedError
            If no row was seen.

        Warns
        -----
        RuntimeWarning
            If the stream looks sorted, there may be more heavy rows than room, the direction is ill-determined, or all
            rows are zero.
        """
        if not self.n_rows:
            from sklearn.exceptions import NotFittedError

            raise NotFittedError("the stream is empty: update it with rows before asking for its result")
        return self._final()._finish(self.memory_used)

    def _final(self) -> "TopEigenvectorStream":
        """Return a copy that has pushed all rows, and is not to go on."""
        final = self._shared()
        final._release()
        return final

    def _weight(self) -> float:
        """Return the weight of all rows, of which the values are sums."""
        from ._finish import age

        final = self._final()
        return math.ldexp(final._total * 2.0 ** (age(final) % 1), math.floor(age(final)))

    def _scaled_result(self) -> tuple[TopEigenvectorResult, int]:
        """Return the result for rows multiplied by 2**-e, mean included, of which energies are numbers, and e."""
        final = self._final()
        exponent, final._exponent = final._exponent or 0, 0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # given with the result itself
            return final._finish(self.memory_used), exponent

    def _finish(self, memory: int) -> TopEigenvectorResult:
        from ._finish import finished

        k = self._settings.n_components
        answer = self._engine.answer(self._intake, k)
        if self._beside is not None:
            other = self._beside.answer(self._beside_intake, k)
            if other.error < answer.error or self._beside.holds_more(answer.components[0, :]):
                answer = other
        return finished(self, answer, memory)

    @property
    def memory_used(self) -> int:
        """Bytes of the state."""
        return bytes_of(self.__dict__)

    # --- states ---------------------------------------------------------------------------------------

    def copy(self) -> "TopEigenvectorStream":
        """Return a copy that can go on by itself."""
        other = self._shared()
        if self._room is not None:
            other._room = self._room.copy()
        return other

    def _shared(self) -> "TopEigenvectorStream":
        """Return a copy, of which not both may go on."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        for name in ("_engine", "_intake", "_beside", "_beside_intake", "_order"):
            value = getattr(self, name)
            setattr(other, name, None if value is None else value.copy())
        other._held, other._held_weights = list(self._held), list(self._held_weights)
        return other

    def merge(self, other: "TopEigenvectorStream") -> Self:
        """Take in what another stream has seen, as if its rows had come after these.

        Parameters
        ----------
        other : TopEigenvectorStream
            Of the same settings, `rng` apart; it is not changed.

        Returns
        -------
        self : TopEigenvectorStream
            This object.

        Raises
        ------
        ValueError
            If the settings differ, or the method cannot be merged ("random-order", "oja", and `forget` < 1).

        Notes
        -----
        The error grows as the number of merged streams; few long streams are better than many short ones.
        """
        from ._merging import merge

        merge(self, other)
        return self

    def save(self, path: str | os.PathLike) -> None:
        """Write a checkpoint, an .npz file without pickles; `load` goes on with the same bits.

        Parameters
        ----------
        path : str or path-like
            Where to; an older file is replaced at the end alone.
        """
        settled = self.copy()
        settled._leave_room()
        state = {name: value for name, value in vars(settled).items() if name not in ("_settings", "_plan")}
        settings = asdict(self._settings)
        chosen = None if self._plan is None else asdict(self._plan)
        _checkpoint.save(path, "TopEigenvectorStream", {**state, "settings": settings, "plan": chosen})

    @classmethod
    def load(cls, path: str | os.PathLike) -> Self:
        """Read what `save` wrote.

        Parameters
        ----------
        path : str or path-like
            Where from.

        Returns
        -------
        stream : TopEigenvectorStream
            As it was.

        Raises
        ------
        ValueError
            If the file is foreign, cut off, altered, or holds something else.
        """
        state = _checkpoint.load(path, "TopEigenvectorStream", _CLASSES)
        made = cls.__new__(cls)
        made._settings = Settings(**state.pop("settings"))
        chosen = state.pop("plan")
        made._plan = None if chosen is None else Plan(**chosen)
        made.__dict__.update(state)
        return made


@lru_cache(maxsize=8)
def _ones(n: int) -> np.ndarray:
    """Return ones that nobody writes to."""
    return np.ones(n)
