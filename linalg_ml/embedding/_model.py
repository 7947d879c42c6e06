"""What was asked for, checked: options, and the first panel that follows from them."""

import math
import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from array_api_compat import is_cupy_array
from scipy import sparse

from .._core.arrays import (
    Array,
    check_array,
    check_choice,
    check_int,
    check_real,
    is_cupy_sparse,
    is_sparse,
    like,
    to_numpy,
)
from .._core.random import Stream, key_of
from ._kernels import propagate
from ._projection import KINDS, Projection, check_density, pieces

SPARSE = 1 / 16  # density up to which the first power is summed from the non-zeros of the projection
_NO_RUN = 2**62
_ROOM = 2.0**10
_LARGEST = 1e30  # weight of a power: sums of a few stay in the range of float32


# --- the first panel ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class NodeStart:
    """N_0 = L R of one group of columns: the projection, scaled by ℓ."""

    projection: Projection
    ids: range | np.ndarray
    levels: np.ndarray
    offset: int
    scale: float
    gamma: float

    @property
    def width(self) -> int:
        return self.projection.width

    @property
    def is_sparse(self) -> bool:
        return self.projection.kind == "sparse" and self.projection.density <= SPARSE

    def fill(self, rows: slice | np.ndarray, out: Array, first: int = 0) -> Array:
        """Return `out`, filled with columns from `first` on of these rows."""
        ids = self.ids[rows] if isinstance(rows, slice) else _ids_of(self.ids, rows)
        if not isinstance(ids, range):
            ids = like(ids, out)
        return self.projection.fill(ids, like(self.levels[rows], out), out, first)

    def nonzeros(self, first: int, count: int, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the magnitude of each row's entries, where they start, and 2 · column + sign bit of each."""
        return (self.levels * self.projection.size).astype(dtype), *self.projection.nonzeros(self.ids, first, count)


def _ids_of(ids: range | np.ndarray, rows: np.ndarray) -> np.ndarray:
    return np.asarray(rows + ids.start if isinstance(ids, range) else ids[rows]).astype(np.uint64)


@dataclass(frozen=True)
class FeatureStart:
    """N_0 = X P of the other group: projected features of nodes."""

    features: Any
    projection: Projection
    offset: int
    scale: float
    gamma: float = 1.0
    is_sparse: bool = False

    @property
    def width(self) -> int:
        return self.projection.width

    @cached_property
    def _matrix(self) -> np.ndarray:
        p = self.features.shape[1]
        return self.projection.fill(range(p), np.ones(p), np.empty((p, self.width)))

    def fill(self, rows: slice | np.ndarray, out: Array, first: int = 0) -> Array:
        """Return `out`, filled: sums over features in order, in float64, rounded once."""
        P = np.ascontiguousarray(self._matrix[:, first : first + out.shape[1]])
        chosen = self.features[rows]
        for start, stop in pieces(out.shape[0], max(out.shape[1], 64)):
            X = sparse.csr_array(to_numpy_sparse(chosen[start:stop]), dtype=np.float64)
            ones, sums = np.ones(stop - start), np.empty((stop - start, out.shape[1]))
            propagate(P, X.indptr.astype(np.int64), X.indices.astype(np.int32), X.data, ones, _NO_RUN,
                      None, None, None, False, sums, None, None)  # fmt: skip
            if not np.abs(sums).max(initial=0) < np.finfo(out.dtype).max / _ROOM:
                raise ValueError(f"features are out of the range of {out.dtype}: scale them down")
            out[start:stop, :] = like(sums, out).astype(out.dtype)
        return out


def to_numpy_sparse(block: Any) -> Any:
    return block if sparse.issparse(block) else to_numpy(block)


Start = NodeStart | FeatureStart


# --- options ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Options:
    """Checked options of an embedding, and what is fixed with them at fit."""

    n_components: int
    weights: tuple[float, ...]
    self_weight: float
    normalization: float
    projection: str
    density: float
    normalize_powers: bool
    feature_weight: float
    dtype: np.dtype
    key: int
    exponent: int  # e: levels are r^β 2⁻ᵉ, so that float32 stays in range

    @property
    def q(self) -> int:
        """Number of powers."""
        return len(self.weights)

    @property
    def used(self) -> list[int]:
        """Powers that are added up."""
        return [i for i, weight in enumerate((self.self_weight, *self.weights)) if weight != 0]

    @property
    def widths(self) -> tuple[int, int]:
        """Columns from nodes and from features."""
        d, rho = self.n_components, self.feature_weight
        of_features = min(d, max(1, math.floor(rho * d + 0.5))) if rho > 0 else 0
        return d - of_features, of_features

    def amounts(self, start: Start) -> dict[int, float]:
        """Return by how much the rows of each power count in a group of columns."""
        all_weights = (self.self_weight, *self.weights)
        factor = start.scale if self.normalize_powers else start.scale * start.gamma
        return {i: all_weights[i] * factor for i in self.used}

    def starts(self, degrees: np.ndarray, ids: range | np.ndarray, features: Any, total: float) -> list[Start]:
        """Return the first panels of the groups of columns; `total` is the sum of all weights of the graph."""
        of_nodes, of_features = self.widths
        rho, starts = self.feature_weight, list[Start]()
        if of_nodes:
            projection = Projection(self.projection, self.density, of_nodes, self.key)
            gamma = 2.0**self.exponent * total**-self.normalization if total > 0 else 1.0
            levels = self.levels(degrees)
            starts.append(NodeStart(projection, ids, levels, 0, math.sqrt(1 - rho), gamma))
        if of_features:
            projection = Projection("sparse", 1 / 3, of_features, self.key, Stream.FEATURES)
            starts.append(FeatureStart(features, projection, of_nodes, math.sqrt(rho)))
        return starts

    def levels(self, degrees: np.ndarray) -> np.ndarray:
        """Return r^β 2⁻ᵉ, where r = 0 counts as 1: a negative β would make infinity of it."""
        if self.normalization == 0:
            return np.ones(degrees.size)
        r = np.where(degrees > 0, degrees, 1.0)
        with np.errstate(over="ignore"):
            levels = r**self.normalization * 2.0**-self.exponent
        limit = np.finfo(self.dtype).max / _ROOM
        if not (levels.max() < limit and levels.max() * degrees.max(initial=0) < limit):
            raise ValueError(
                f"normalization={self.normalization:g} takes the weights of this graph out of the range of {self.dtype}"
            )
        return levels


def check_options(
    n: int,
    degrees: np.ndarray,
    dtype: np.dtype,
    *,
    n_components: Any,
    weights: Any,
    self_weight: Any,
    normalization: Any,
    projection: Any,
    density: Any,
    normalize_powers: Any,
    features: Any,
    feature_weight: Any,
    rng: Any,
    rng_name: str = "rng",
) -> Options:
    """Return the options, or say which is not acceptable."""
    n_components = check_int(n_components, "n_components")
    weights, self_weight = check_amounts(weights, self_weight)
    normalization = check_normalization(normalization)
    check_choice(projection, "projection", KINDS)
    feature_weight = check_real(feature_weight, "feature_weight", 0, 1, open_ends=False)
    if isinstance(density, str) and density == "auto":
        density = auto_density(n, self_weight, [weights])
    return Options(
        n_components=n_components,
        weights=weights,
        self_weight=self_weight,
        normalization=normalization,
        projection=projection,
        density=check_density(density),
        normalize_powers=bool(normalize_powers),
        feature_weight=0.0 if features is None else feature_weight,
        dtype=dtype,
        key=key_of(rng, rng_name),
        exponent=exponent_of(degrees, normalization),
    )


def check_amounts(weights: Any, self_weight: Any) -> tuple[tuple[float, ...], float]:
    """Return the weights of the powers without zeros at their end, and that of the node itself."""
    self_weight = check_real(self_weight, "self_weight", -_LARGEST, _LARGEST)
    try:
        flat = np.ndim(weights) == 1 and not isinstance(weights, str)
    except ValueError:  # ragged
        flat = False
    if not flat:
        raise ValueError(f"weights must be a sequence of numbers, one for each power, got {weights!r}")
    values = [check_real(value, "each of weights", -_LARGEST, _LARGEST) for value in to_numpy_list(weights)]
    while values and values[-1] == 0:
        values.pop()
    if not values and self_weight == 0:
        raise ValueError(f"weights must not all be zero where self_weight is 0, got {weights!r}")
    return tuple(values), self_weight


def to_numpy_list(values: Any) -> list:
    return np.asarray(values).tolist()


def check_normalization(value: Any) -> float:
    """Return the exponent of the degrees; warn outside [-1, 1]."""
    value = check_real(value, "normalization", -np.inf, np.inf)
    if abs(value) > 1:
        warnings.warn(f"normalization is usually in [-1, 1], got {value:g}", UserWarning, stacklevel=4)
    return value


def auto_density(n: int, self_weight: float, candidates: list[tuple[float, ...]]) -> float:
    """Return the paper's 1/√n where low powers, which would suffer from it, do not count, else 1/3."""
    low = self_weight != 0 or any(weights[:1] != (0.0,) for weights in candidates)
    return 1 / 3 if low else 1 / math.sqrt(n)


def exponent_of(degrees: np.ndarray, normalization: float) -> int:
    """Return e, which brings the mean degree's level near 1."""
    some = degrees[degrees > 0]
    return round(normalization * math.log2(some.mean())) if some.size else 0


def check_features(features: Any, n: int, name: str = "features") -> Any:
    """Return features of `n` nodes, dense or CSR; None stays None."""
    if features is None:
        return None
    X = check_array(features, name, ndim=2, complex_ok=False, sparse_ok=True)
    if X.shape[0] != n:
        raise ValueError(f"{name} must have a row for each of the {n} nodes, got shape {tuple(X.shape)}")
    if is_sparse(X):
        X = X.get() if is_cupy_sparse(X) else X
        X = sparse.csr_array(X, copy=not X.has_canonical_format)
        X.sum_duplicates()
        return X
    return X if is_cupy_array(X) else to_numpy(X)  # the host reads them, block by block
