"""The sketching wing's stops on the tour: covariance and regression of all patches of a photograph."""

from typing import Any

import numpy as np

from .._core.tour import TourStop, timed

_SIDE = 8  # of a patch, in pixels
_ROWS = 2000  # of the sketch


def stop() -> tuple[TourStop, TourStop]:
    """Sketch the patches for their covariance; predict pixels from their neighbours."""
    image, source = _image()
    return _covariance(image, source), _regression(image, source)


# --- the covariance -----------------------------------------------------------------------------------


def _covariance(image: np.ndarray, source: str) -> TourStop:
    """Compare the covariance of the sketched patches with the exact one."""
    from . import SRHT, gram_error

    A = _patches(image)
    S = SRHT(len(A), _ROWS, rng=0)

    def ours() -> np.ndarray:
        B = S @ A
        return B.T @ B

    sketched, seconds = timed(ours, 5)
    exact, usual_seconds = timed(lambda: A.T @ A, 5)
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
        picture=lambda figure: _draw_covariance(figure, sketched, exact, image.shape[2]),
        caption=f"The spectrum of the covariance and its first principal patches, from {_ROWS} rows and from all.",
    )


# --- the regression -----------------------------------------------------------------------------------


def _regression(image: np.ndarray, source: str) -> TourStop:
    """Predict the pixel in the middle of each patch from the pixels around it, beside SciPy."""
    from scipy.linalg import lstsq as scipy_lstsq

    from . import lstsq

    A, b, mean = _neighbours(image.astype(np.float64))
    result, seconds = timed(lambda: lstsq(A, b, rng=0), 3)
    usual, usual_seconds = timed(lambda: scipy_lstsq(A, b)[0], 1)
    exact = _refined(A, b, usual)
    explained = 1 - (result.residual_norm / np.linalg.norm(b)) ** 2
    excess = max(abs(result.residual_norm / np.linalg.norm(b - A @ usual) - 1), np.finfo(float).eps)
    true, predicted = b + mean, np.clip(A @ result.x + mean, 0, 1)
    of_green = "of green " if image.shape[2] == 3 else ""
    shape = [side - _SIDE + 1 for side in image.shape[:2]]
    return TourStop(
        capability="Least squares (lstsq)",
        purpose="Solves tall least-squares problems to full accuracy, and says how accurate the answer is.",
        code=(
            "result = linalg_ml.sketching.lstsq(A, b)\n"
            "x, residues, rank, s = result  # as scipy.linalg.lstsq\n"
            "claim = result.forward_error"
        ),
        data=f"all {_SIDE} × {_SIDE} patches of {source}, one pixel from the others",
        size=f"{len(A)} × {A.shape[1]}",
        quality=f"explains {100 * explained:.2f} % of the variance; ‖b − Ax‖ agrees with SciPy's to {excess:.0e}",
        error_name="‖x − x*‖ / ‖x*‖, where x* is SciPy's answer refined by a step in extended precision",
        claimed_error=result.forward_error,
        true_error=float(np.linalg.norm(result.x - exact) / np.linalg.norm(exact)),
        seconds=seconds,
        usual_tool="scipy.linalg.lstsq",
        usual_seconds=usual_seconds,
        picture=lambda figure: _draw_regression(figure, result.x, true.reshape(shape), predicted.reshape(shape)),
        caption=f"The coefficients {of_green}by place around the pixel × that is predicted, and a detail.",
    )


def _neighbours(image: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Return patches without the pixel in their middle, one channel of this pixel, and its mean; columns centred."""
    channels, half = image.shape[2], _SIDE // 2
    middle = channels * (_SIDE + 1) * half
    green = channels // 2
    A = _patches(image)
    mean = image[half : half + image.shape[0] - _SIDE + 1, half : half + image.shape[1] - _SIDE + 1, green].mean()
    around = np.concatenate([A[:, :middle], A[:, middle + channels :]], axis=1)
    return around, A[:, middle + green].copy(), float(mean)


def _refined(A: np.ndarray, b: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return x with a Newton step whose gradient is computed in long double."""
    gradient = np.zeros(x.size, np.longdouble)
    start = x.astype(np.longdouble)
    for first in range(0, len(A), 4096):
        rows = A[first : first + 4096].astype(np.longdouble)
        gradient += (b[first : first + 4096] - rows @ start) @ rows
    return start + np.linalg.solve(A.T @ A, gradient.astype(np.float64))


# --- parts of both ------------------------------------------------------------------------------------


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


def _captured(sketched: np.ndarray, exact: np.ndarray, k: int) -> float:
    """Return the variance along the first k eigenvectors of `sketched`, relative to the most that k can hold."""
    vectors = _principal(sketched)[1][:, :k]
    return float(np.trace(vectors.T @ exact @ vectors) / _principal(exact)[0][:k].sum())


def _principal(gram: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    values, vectors = np.linalg.eigh(gram.astype(np.float64))
    return values[::-1], vectors[:, ::-1]


def _draw_covariance(figure: Any, sketched: np.ndarray, exact: np.ndarray, channels: int) -> None:
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


def _draw_regression(figure: Any, x: np.ndarray, true: np.ndarray, predicted: np.ndarray) -> None:
    channels, middle = x.size // (_SIDE**2 - 1), (_SIDE + 1) * (_SIDE // 2)
    weights = np.insert(x.reshape(-1, channels)[:, channels // 2], middle, np.nan).reshape(_SIDE, _SIDE)
    largest = np.nanmax(np.abs(weights))
    axes = figure.subplot_mosaic("wt;wp", width_ratios=(1, 1.15))
    shown = axes["w"].imshow(weights, cmap="RdBu", vmin=-largest, vmax=largest)
    axes["w"].plot(_SIDE // 2, _SIDE // 2, "x", color="#3b434d")
    figure.colorbar(shown, ax=axes["w"], orientation="horizontal", shrink=0.9)
    detail = np.s_[160:240, 150:280]
    for name, picture in (("t", true), ("p", predicted)):
        axes[name].imshow(picture[detail], cmap="gray", vmin=0, vmax=1)
    for name, title in (("w", "coefficients"), ("t", "true"), ("p", "predicted")):
        axes[name].set_title(title)
        axes[name].set_axis_off()
