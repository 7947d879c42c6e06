"""The wing's stop on the tour: a graph of handwritten digits, embedded, drawn, and read with few labels."""

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from .._core.tour import TourStop, timed

if TYPE_CHECKING:
    from ._result import FastRPResult

_NEIGHBOURS = 10
_WEIGHTS = (0.0, 0.0, 1.0, 1.0)  # the default of `fastrp`


def stop() -> TourStop:
    """Embed the graph of neighbours among the digits, beside scikit-learn's spectral embedding."""
    from sklearn.manifold import SpectralEmbedding

    from . import fastrp

    S, images, labels = _graph()
    result, seconds = timed(lambda: fastrp(S, rng=0), 9)
    spectral = SpectralEmbedding(n_components=32, affinity="precomputed", random_state=0)
    usual, usual_seconds = timed(lambda: spectral.fit_transform(S), 3)
    train = np.random.default_rng(0).permutation(labels.size)[: labels.size // 10]
    ours, theirs, pixels = (_share_read(X, labels, train) for X in (result.embedding, usual, images))
    return TourStop(
        capability="Graph embedding (FastRP)",
        purpose="Gives the nodes of a graph vectors that are alike where their neighbourhoods are.",
        code="result = linalg_ml.embedding.fastrp(S)\nE = result.embedding\nclaim = result.relative_error",
        data=f"the digits (scikit-learn), each joined to the {_NEIGHBOURS} most alike",
        size=f"{S.shape[0]} nodes, {S.nnz // 2} edges",
        quality=(
            f"a tenth labelled, {100 * ours:.1f} % of the others are read; from the spectral embedding "
            f"{100 * theirs:.1f} %, from the pixels {100 * pixels:.1f} %"
        ),
        error_name="‖EEᵀ − MMᵀ‖_F / ‖E‖_F², where E = MR and R is the random projection",
        claimed_error=result.relative_error,
        true_error=_true_error(S, result),
        seconds=seconds,
        usual_tool="SpectralEmbedding(n_components=32)",
        usual_seconds=usual_seconds,
        picture=lambda figure: _draw(figure, S, images, labels, result.embedding),
        caption=(
            "The digits in the two principal directions of the embedding, with the edges between them; colours are "
            "digits, which the embedding does not know. At the right some digits, each with those whose vectors "
            "have the greatest cosine with its own."
        ),
    )


def _graph() -> tuple[sparse.csr_array, np.ndarray, np.ndarray]:
    """Return who is among the nearest of whom, the images and the digits."""
    from sklearn.datasets import load_digits
    from sklearn.neighbors import kneighbors_graph

    images, labels = load_digits(return_X_y=True)
    S = kneighbors_graph(images, _NEIGHBOURS)
    S = sparse.csr_array(S.maximum(S.T))
    S.indices, S.indptr = S.indices.astype(np.int32), S.indptr.astype(np.int32)  # scikit-learn takes no others
    return S, images, labels


def _share_read(X: np.ndarray, labels: np.ndarray, train: np.ndarray) -> float:
    """Return which share of the digits is read by a classifier that knows the labels of some."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
    others = np.setdiff1d(np.arange(labels.size), train)
    return float(model.fit(X[train], labels[train]).score(X[others], labels[others]))


def _true_error(S: sparse.csr_array, result: "FastRPResult") -> float:
    """Return the relative error from the matrix M itself, for the default weights."""
    A = sparse.diags_array(1 / S.sum(axis=1)) @ S
    power, M, norms = sparse.eye_array(S.shape[0], format="csr"), np.zeros(S.shape), iter(np.asarray(result.row_norms))
    for weight in _WEIGHTS:
        power = A @ power
        if weight:
            M += weight * (sparse.diags_array(1 / next(norms)) @ power).toarray()
    E = np.asarray(result, np.float64)
    return float(np.linalg.norm(E @ E.T - M @ M.T) / np.linalg.norm(E) ** 2)


def _draw(figure: Any, S: sparse.csr_array, images: np.ndarray, labels: np.ndarray, E: np.ndarray) -> None:
    plane, beside = figure.subplots(1, 2, width_ratios=(2, 1))
    centred = E - E.mean(axis=0)
    at = centred @ np.linalg.svd(centred, full_matrices=False)[2][:2].T
    edges = sparse.triu(S, 1).tocoo()
    apart = np.full(edges.nnz, np.nan)  # between lines
    x, y = (np.stack([at[edges.row, axis], at[edges.col, axis], apart], axis=1).ravel() for axis in (0, 1))
    plane.plot(x, y, color="0.6", linewidth=0.2, alpha=0.25, zorder=0)
    plane.scatter(*at.T, s=6, c=labels, cmap="tab10")
    for digit in range(10):
        box = {"boxstyle": "round,pad=0.15", "facecolor": "w", "edgecolor": "none", "alpha": 0.75}
        plane.text(
            *np.median(at[labels == digit], axis=0), str(digit), weight="bold", ha="center", va="center", bbox=box
        )
    plane.set_axis_off()
    chosen = [int(np.flatnonzero(labels == digit)[0]) for digit in range(10)]
    U = E / np.maximum(np.linalg.norm(E, axis=1, keepdims=True), 1e-30)
    nearest = np.argsort(-(U[chosen] @ U.T), axis=1)[:, :7]
    pictures = images[nearest].reshape(10, 7, 8, 8)
    pictures = np.pad(pictures, ((0, 0), (0, 0), (1, 1), (1, 1)))
    pictures = np.insert(pictures.swapaxes(1, 2).reshape(100, 70), 10, 0, axis=1)
    beside.imshow(pictures, cmap="gray_r")
    beside.axvline(10, color="k", linewidth=0.5)
    beside.set_title("a digit, and the nearest to it", fontsize="small")
    beside.set_axis_off()
