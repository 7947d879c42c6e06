"""What an embedding is answered with."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from array_api_compat import is_dask_array, is_numpy_array

from .._core.arrays import Array, check_int, is_sparse, to_numpy
from .._linalg.estimates import check_confidence
from ._graph import Graph
from ._model import Options, Start
from ._powers import Walk

_PROBES, _CONFIDENCE = 8, 0.95


@dataclass(frozen=True)
class Fitted:
    """What was embedded and how."""

    graph: Graph
    options: Options
    ids: range | np.ndarray
    features: Any
    powers: list[list[Array]] | None  # of each group of columns: N_1 … N_{q-1}

    def on_host(self) -> "Fitted":
        """Return the same in NumPy arrays."""
        if is_numpy_array(self.graph.indptr):
            return self
        powers = None if self.powers is None else [[to_numpy(N) for N in group] for group in self.powers]
        features = self.features if self.features is None or is_sparse(self.features) else to_numpy(self.features)
        return Fitted(self.graph.on_host(), self.options, self.ids, features, powers)

    def walks(self) -> Any:
        """Return products with A and with Sᵀ, for the error."""
        from ._error import transposed

        return Walk(self.graph), transposed(self.graph)

    def starts(self) -> list[Start]:
        """Return the first panels of the groups of columns."""
        total = float(self.graph.degrees.sum())
        return self.options.starts(self.graph.degrees, self.ids, self.features, total)


@dataclass(frozen=True)
class FastRPResult:
    """An embedding, its error, and what follows from it for new nodes and edited edges.

    ``np.asarray(result)`` is the embedding.

    Attributes
    ----------
    embedding : array, shape (n, n_components), float32 or float64
        A row for each node.
    row_norms : ndarray of float64, or None
        Lengths of the rows of the powers that count, in ascending order of powers (0 first): shape (k, n), with
        features (k, n, 2), for the columns of nodes and of features. They are those of the powers as computed, which
        differ from the definition by one common factor. None if the powers were not normalised.
    density : float
        Density of the projection that was used.
    seed : int
        The 64-bit key: ``rng=result.seed`` repeats the embedding.
    n_zero_rows : int
        Number of nodes with edges whose rows are zero: their walks end before the powers that count, or the sparse
        projection has no non-zero near them.
    error : float
        Bound of ‖E Eᵀ - M Mᵀ‖_F at probability `confidence`; computed when first asked for.
    relative_error : float
        ``error / ‖E‖_F²``: root mean square error of an inner product relative to the root mean square product of
        lengths.
    confidence : float
        0.95.

    Notes
    -----
    The embedding is E = M R with M = Σ_i diag(c_i) Aⁱ L, c_i = weight/length of the row, so that E Eᵀ estimates the
    matrix of similarities M Mᵀ. Their difference is multiplied by 8 Gaussian probes, which are independent of R, in 2q
    products of a few columns: about a third of the time of the embedding. Any symmetric matrix B has
    ‖B‖_F² ≤ ‖B Z‖_F²/χ²(0.05) with probability 0.95, where χ² is that of 8 degrees of freedom: for typical B the bound
    is 1.7 times the true error.
    """

    embedding: Array
    row_norms: np.ndarray | None
    density: float
    seed: int
    n_zero_rows: int
    _fitted: Fitted = field(repr=False)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        E = self.embedding.compute() if is_dask_array(self.embedding) else to_numpy(self.embedding)
        wanted = E if dtype is None else E.astype(dtype, copy=False)
        return wanted.copy() if copy and wanted is E else wanted

    @cached_property
    def _estimate(self) -> tuple[float, float]:
        return self.estimate_error()

    @property
    def error(self) -> float:
        """Bound of ‖E Eᵀ - M Mᵀ‖_F at probability `confidence`."""
        return self._estimate[0]

    @property
    def relative_error(self) -> float:
        """The error, relative to ‖E‖_F²."""
        return self._estimate[1]

    @property
    def confidence(self) -> float:
        """Probability at which `error` holds."""
        return _CONFIDENCE

    def estimate_error(self, n_probes: int = _PROBES, confidence: float = _CONFIDENCE) -> tuple[float, float]:
        """Bound the error of inner products with other numbers of probes, or at another probability.

        Parameters
        ----------
        n_probes : int, default 8
            Gaussian probes. The bound of a typical matrix is too large by a factor of 2.4 (4 probes), 1.7 (8), 1.4
            (16).
        confidence : float in (0.8, 1), default 0.95
            Probability at which the bound holds.

        Returns
        -------
        error, relative_error : float
            As the attributes.

        Raises
        ------
        ValueError
            If an argument is out of range.
        """
        from ._error import estimate

        n_probes, confidence = check_int(n_probes, "n_probes"), check_confidence(confidence)
        return estimate(self._fitted, self.embedding, self.row_norms, n_probes, confidence)

    def transform(self, B: Any, new_edges: Any = None, node_ids: Any = None, features: Any = None) -> Array:
        """Embed new nodes from their edges; the embedding of the known nodes does not change.

        Parameters
        ----------
        B : sparse or dense matrix, shape (m, n)
            Weights ≥ 0 of the edges from m new nodes to the n known ones.
        new_edges : sparse or dense matrix, shape (m, m), optional
            Weights of the edges among the new nodes.
        node_ids : array_like of int, shape (m,), optional
            Ids of the new nodes, none of which is known; default n … n + m - 1. They matter where new nodes point to
            new ones, or power 0 counts.
        features : array_like or sparse matrix, shape (m, p), optional
            Properties of the new nodes, where they are needed.

        Returns
        -------
        embedding : array, shape (m, n_components)
            As in `embedding`.

        Raises
        ------
        ValueError
            Wrong shapes, weights that are negative or not finite, ids that are known, features missing.
        TypeError
            If the fitted graph is a dask array.

        Notes
        -----
        The rows are, bit for bit, those of an embedding of the graph with the new nodes to which no old node points,
        with the same seed and density (without normalised powers, up to the sum of all weights, which stays as fitted).
        They come from the powers of the neighbours, not from their embeddings: averaging these would shift every power
        by one. With ``keep_powers=True`` the cost is that of the new edges, else that of the edges up to q - 1 steps
        away.
        """
        from ._transform import transform

        return transform(self, B, new_edges, node_ids, features)

    def update(self, src: Any, dst: Any, weight: Any = None, directed: bool = False) -> "FastRPResult":
        """Return the embedding after edits of edges, computed where something changes.

        Parameters
        ----------
        src, dst : array_like of int, shape (k,)
            Row numbers of the ends of the edges.
        weight : float or array_like, shape (k,), optional
            New weights ≥ 0; 0 deletes an edge, None means 1. Of a repeated edge the last entry counts.
        directed : bool, default False
            Edit the edges from `src` to `dst` alone, not both directions.

        Returns
        -------
        result : FastRPResult
            Bit for bit the embedding of the edited graph with the same seed and density; this result stays as it is.

        Raises
        ------
        ValueError
            An unknown row number, arrays of different lengths, or a weight that is negative or not finite.
        TypeError
            If the fitted graph is a dask array, or `src` or `dst` hold no integers.

        Warns
        -----
        UserWarning
            As `fastrp`, of rows of zeros.

        Notes
        -----
        With ``keep_powers=True`` the rows within q steps of an edit are recomputed. On graphs of neighbours and meshes
        these are few; on small-world graphs they are all nodes from the third power or so, and where the edges of such
        rows exceed half of all edges, the whole power is done. Without kept powers it is a full pass. Nodes cannot be
        added: use `transform`, or embed anew with ``density=result.density``.
        """
        from ._update import update

        return update(self, src, dst, weight, directed)
