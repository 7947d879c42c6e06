"""Search for the weights of the powers and the exponent of the degrees."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from .._core.arrays import Array, like
from .._core.random import RNG, key_of
from ._graph import Graph, as_graph, check_nodes
from ._kernels import row_factors
from ._model import Options, auto_density, check_amounts, check_options
from ._powers import Walk

_WEIGHTS = tuple((0.0, 0.0, 1.0, last) for last in (0.25, 1.0, 4.0, 16.0, 64.0))
_NORMALIZATION = (-1.0, -0.75, -0.5, -0.25, 0.0, 0.25)


@dataclass(frozen=True)
class TuneResult:
    """What a search found.

    Attributes
    ----------
    best_params : dict
        Arguments for `fastrp` or `FastRP`: weights, normalization, density.
    best_score : float
        The largest score; of several the first.
    trials : list of dict
        All that was tried, in order, with keys weights, normalization, score.
    n_passes : int
        Passes over the graph: one for each exponent.
    """

    best_params: dict[str, Any]
    best_score: float
    trials: list[dict[str, Any]]
    n_passes: int


def tune(
    adjacency: Any,
    score: Callable[[np.ndarray], float],
    *,
    weights: Any = None,
    normalization: Any = None,
    n_components: int = 64,
    density: float | str = "auto",
    rows: Any = None,
    rng: RNG = None,
) -> TuneResult:
    """Search for the weights of the powers and the exponent of the degrees that score best.

    Parameters
    ----------
    adjacency : sparse or dense matrix, shape (n, n), graph, or tuple of arrays
        As in `fastrp`.
    score : callable
        ``score(E)`` tells how good the embedding E is, the more the better; E is a float32 array with the rows `rows`,
        shape (len(rows), n_components).
    weights : sequence of sequences, optional
        Weights to try; default (0, 0, 1, α) with α = 1/4, 1, 4, 16, 64.
    normalization : sequence of float, optional
        Exponents to try; default -1, -3/4, …, 1/4.
    n_components : int, default 64
        Length of the vectors while searching; what is found serves longer ones too.
    density : float in (0, 1] or "auto", default "auto"
        As in `fastrp`, the same for all trials.
    rows : array_like of int, optional
        Nodes that are scored, those with labels for instance; default all.
    rng : None, int or numpy.random.Generator, optional
        Randomness, the same for all trials.

    Returns
    -------
    result : TuneResult
        With ``best_params``, ``best_score`` and all ``trials``.

    Raises
    ------
    ValueError
        As `fastrp`; no candidate; a row number that is not in the graph; a score that is NaN.
    TypeError
        As `fastrp`; `score` is not callable.

    See Also
    --------
    fastrp : the embedding.

    Notes
    -----
    The powers do not depend on the weights, so one pass over the graph serves all weights, and each costs one sum of
    q · len(rows) · n_components numbers, which are kept beside two panels of n · n_components. The exponent is inside
    the powers: another one is another pass. Trials equal calls of `fastrp` with the same seed and density, to rounding.
    The best of many scores is biased upwards: judge it on nodes that took no part.

    Examples
    --------
    >>> import networkx as nx
    >>> import numpy as np
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.model_selection import cross_val_score
    >>> from linalg_ml.embedding import tune
    >>> G = nx.karate_club_graph()
    >>> clubs = [G.nodes[i]["club"] for i in G]
    >>> model = LogisticRegression()
    >>> found = tune(G, lambda E: cross_val_score(model, E, clubs).mean(), normalization=[-0.5, 0.0], rng=0)
    >>> found.n_passes, len(found.trials), bool(found.best_score > 0.8)
    (2, 10, True)
    """
    if not callable(score):
        raise TypeError(f"score must be callable, got {score!r}")
    graph = as_graph(adjacency, np.dtype(np.float32))
    candidates = [check_amounts(each, 0.0)[0] for each in (_WEIGHTS if weights is None else weights)]
    exponents = list(_NORMALIZATION if normalization is None else np.atleast_1d(normalization).tolist())
    if not candidates or not exponents:
        raise ValueError("weights and normalization must hold at least one candidate each")
    if isinstance(density, str) and density == "auto":
        density = auto_density(graph.n, 0.0, candidates)
    chosen = slice(None) if rows is None else check_nodes(rows, "rows", graph.n)
    key, longest = key_of(rng), max(map(len, candidates))
    trials: list[dict[str, Any]] = []
    for exponent in exponents:
        options = check_options(
            graph.n, graph.degrees, graph.dtype, n_components=n_components, weights=(1.0,) * longest, self_weight=0.0,
            normalization=exponent, projection="sparse", density=density, normalize_powers=True, features=None,
            feature_weight=0.0, rng=key,
        )  # fmt: skip
        powers = [panel for _, panel in zip(range(longest), _normalised_powers(graph, options, chosen), strict=False)]
        for candidate in candidates:
            value = _checked(score(_weighted(powers, candidate)))
            trials.append({"weights": candidate, "normalization": options.normalization, "score": value})
    best = max(trials, key=lambda trial: trial["score"])
    found = {"weights": best["weights"], "normalization": best["normalization"], "density": options.density}
    return TuneResult(found, best["score"], trials, len(exponents))


def _checked(value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"score must return a number, got {value!r}") from None
    if np.isnan(number):
        raise ValueError("score must return a number, got NaN")
    return number


def _normalised_powers(graph: Graph, options: Options, rows: Any) -> Iterator[Array]:
    """Yield the chosen rows of U_1, U_2, …"""
    walk = Walk(graph)
    start = options.starts(graph.degrees, range(graph.n), None, float(graph.degrees.sum()))[0]
    source, spare = None, walk.empty(start.width)
    where = rows if isinstance(rows, slice) else like(rows, graph.indptr)
    while True:
        squares = walk.squares()
        if source is None and walk.from_nonzeros(start):
            walk.first_step(start, 0, start.width, alpha=None, factors=None, fresh=False, out=spare, total=None,
                            squares=squares)  # fmt: skip
            source, spare = spare, walk.empty(start.width)
        else:
            if source is None:
                source = start.fill(slice(None), walk.empty(start.width))
            walk.step(source, out=spare, squares=squares)
            source, spare = spare, source
        yield source[where] * row_factors(1.0, squares[where], graph.dtype)[:, None]


def _weighted(powers: list[Array], weights: tuple[float, ...]) -> Array:
    total = powers[0] * 0
    for panel, weight in zip(powers, weights, strict=False):
        if weight != 0:
            total += panel * np.asarray(weight, panel.dtype)[()]
    return total
