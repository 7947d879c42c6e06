"""The sketching wing's stop on the tour: the covariance of all patches of a photograph."""

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np

from .._core.tour import TourStop

_SIDE = 8  # of a patch, in pixels
_ROWS = 2000  # of the sketch


def stop() -> TourStop:
    """Sketch the patches, and compare their covariance with the exact one."""
    from . import SRHT, gram_error

    image, source = _image()
    A = _patches(image)
    S = SRHT(len(A), _ROWS, rng=0)

    def ours() -> np.ndarray:
        B = S @ A
        return B.T @ B

    sketched, seconds = _timed(ours)
    exact, usual_seconds = _timed(lambda: A.T @ A)
    B = S @ A
    claim = gram_error(A, B, rng=1)
    true_error = float(np.linalg.norm(sketched - exact) / np.linalg.norm(exact))
    kept = _captured(sketched, exact, 8)
    return TourStop(
        capability="Sketching (SRHT)",
        purpose="Shortens a tall matrix and keeps the inner products of its columns, in one pass over the rows.",
        code=(
            f"S = linalg_ml.sketching.SRHT(len(A), {_ROWS}, rng=0)\n"
            "B = S @ A\n"
            "covariance = B.T @ B  # stands for A.T @ A\n"
            "claim = linalg_ml.sketching.gram_error(A, B, rng=1)"
        ),
        data=f"all {_SIDE} × {_SIDE} patches of {source}",
        size=f"{len(A)} × {A.shape[1]}",
        quality=f"8 principal patches hold {100 * kept:.2f} % of the variance that the exact ones hold",
        error_name="‖AᵀSᵀSA − AᵀA‖_F / ‖AᵀA‖_F, claimed: the bound that holds with probability 95 %",
        claimed_error=claim.relative_error * claim.upper / claim.error,
        true_error=true_error,
        seconds=seconds,
        usual_tool="numpy A.T @ A",
        usual_seconds=usual_seconds,
        bytes_before=A.nbytes,
        bytes_after=B.nbytes,
        picture=lambda figure: _draw(figure, sketched, exact, image.shape[2]),
        caption=f"The spectrum of the covariance and its first principal patches, from {_ROWS} rows and from all.",
    )


def _image() -> tuple[np.ndarray, str]:
    """Return a photograph, shape (height, width, channels); without Pillow, which reads it, digits in rows."""
    from sklearn.datasets import load_digits, load_sample_image

    try:
        image, source = load_sample_image("china.jpg"), "china.jpg (scikit-learn)"
    except ImportError:
        digits = load_digits().images[:1764].reshape(42, 42, 8, 8)
        image, source = digits.swapaxes(1, 2).reshape(336, 336, 1), "the digits (scikit-learn), laid out in rows"
    return image.astype(np.float32) / image.max(), source


def _patches(image: np.ndarray) -> np.ndarray:
    """Return every patch as a row, columns centred."""
    windows = np.lib.stride_tricks.sliding_window_view(image, (_SIDE, _SIDE), axis=(0, 1))
    A = windows.transpose(0, 1, 3, 4, 2).reshape(-1, _SIDE * _SIDE * image.shape[2])
    return A - A.mean(axis=0)


def _timed(call: Callable[[], np.ndarray], repeats: int = 5) -> tuple[np.ndarray, float]:
    result = call()  # kernels are compiled, or read from the cache, here
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = call()
        seconds.append(time.perf_counter() - start)
    return result, median(seconds)


def _captured(sketched: np.ndarray, exact: np.ndarray, k: int) -> float:
    """Return the variance along the first k eigenvectors of `sketched`, relative to the most that k can hold."""
    vectors = _principal(sketched)[1][:, :k]
    return float(np.trace(vectors.T @ exact @ vectors) / _principal(exact)[0][:k].sum())


def _principal(gram: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    values, vectors = np.linalg.eigh(gram.astype(np.float64))
    return values[::-1], vectors[:, ::-1]


def _draw(figure: Any, sketched: np.ndarray, exact: np.ndarray, channels: int) -> None:
    left, right = figure.subfigures(1, 2, width_ratios=(1.15, 1))
    axes = left.subplots()
    axes.semilogy(_principal(exact)[0] / len(exact), label="exact", linewidth=3, alpha=0.45)
    axes.semilogy(_principal(sketched)[0] / len(exact), label="sketched", linewidth=1.2)
    axes.set(xlabel="component", ylabel="eigenvalue")
    axes.legend()
    grid = right.subplots(4, 4)
    for column, (gram, title) in enumerate(((sketched, "sketched"), (exact, "exact"))):
        vectors = _principal(gram)[1]
        for i in range(8):
            ax = grid[i % 4, 2 * column + i // 4]
            patch = vectors[:, i] * np.sign(vectors[np.argmax(np.abs(vectors[:, i])), i])
            shown = 0.5 + 0.5 * patch / np.abs(patch).max()
            ax.imshow(shown.reshape(_SIDE, _SIDE, channels), vmin=0, vmax=1)
            ax.set_axis_off()
        grid[0, 2 * column].set_title(title, loc="left", fontsize="small")
