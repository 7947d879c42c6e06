"""The wing's stops on the tour: weights that remove noise, from a photograph and from digits, made smaller."""

from typing import Any, NamedTuple

import numpy as np

from .._core.tour import TourStop, timed

_SIDE = 16  # of a patch of the photograph, in pixels
_NOISE = 0.1  # standard deviation, of brightness between 0 and 1
_DIGITS_NOISE = 0.2


def stop() -> tuple[TourStop, TourStop]:
    """Project the weights that clean a photograph; then those of digits, in the metric of the data."""
    image, source = _image()
    return _projection(image, source), _weighted_projection()


# --- the projection ---------------------------------------------------------------------------------------


def _projection(image: np.ndarray, source: str) -> TourStop:
    """Compress the linear map from noisy patches to clean ones."""
    from . import project

    mean = float(image.mean())
    A = _ridge(_patches(_with_noise(image, _NOISE, 0), 3) - mean, _patches(image, 3) - mean)
    M, seconds = timed(lambda: project(A, nblocks=_SIDE, rng=0), 9)
    _, usual_seconds = timed(lambda: _slices_by_svd(A, _SIDE), 9)
    truncated = _truncated(A, M.n_parameters // sum(A.shape))
    fresh = _with_noise(image, _NOISE, 1)
    matrices = {"all weights": A, "Monarch, 1/8": M.to_dense(), "truncated SVD, 1/8": truncated}
    pictures = {"noisy": fresh, **{name: _cleaned(fresh, B, mean) for name, B in matrices.items()}}
    decibels = {name: _decibels(picture, image) for name, picture in pictures.items()}
    before, full, ours, theirs = decibels.values()
    true_error, other_error = (float(np.linalg.norm(A - B) / np.linalg.norm(A)) for B in (M.to_dense(), truncated))
    return TourStop(
        capability="Monarch projection",
        purpose="Replaces a matrix by the nearest product of two block-diagonal ones: fewer numbers, faster products.",
        code=(
            f"M = linalg_ml.monarch.project(A, nblocks={_SIDE})\n"
            "Y = M.apply_rows(X)  # stands for X @ A.T\n"
            "claim = M.relative_error"
        ),
        data=f"weights that remove noise from {_SIDE} × {_SIDE} patches of {source}",
        size=f"{A.shape[0]} × {A.shape[1]}",
        quality=(
            f"signal to noise from {before:.1f} to {ours:.1f} dB on new noise; all weights {full:.1f}, "
            f"a truncated SVD of as many numbers {theirs:.1f}"
        ),
        error_name="‖A − M‖_F / ‖A‖_F; it is the least possible",
        claimed_error=M.relative_error,
        true_error=true_error,
        seconds=seconds,
        usual_tool="numpy.linalg.svd on the slices",
        usual_seconds=usual_seconds,
        bytes_before=A.nbytes,
        bytes_after=M.nbytes,
        picture=lambda figure: _draw_photograph(figure, pictures, decibels),
        caption=(
            "A detail, cleaned by the weights and by what stands for them with an eighth of the numbers. The Monarch "
            f"matrix is {100 * true_error:.0f} % away from the weights, the truncated SVD {100 * other_error:.0f} %."
        ),
    )


# --- the projection in the metric of the data ---------------------------------------------------------------


def _weighted_projection() -> TourStop:
    """Compress the linear map from noisy digits to clean ones so that its answers change least."""
    from . import project

    data = _digits()
    X, A = data.noisy, data.weights
    M, seconds = timed(lambda: project(A, nblocks=8, weights=X.T @ X, tol=1e-3), 3)
    low_rank, usual_seconds = timed(lambda: _truncated(A, M.n_parameters // sum(A.shape), X), 3)
    matrices = {"all weights": A, "Monarch, 1/4": M.to_dense(), "low rank, 1/4": low_rank}
    full, ours, theirs = (np.sqrt(np.mean((data.fresh @ B.T - data.clean) ** 2)) for B in matrices.values())
    size = float(np.linalg.norm(X @ A.T))
    _, change, other_change = (float(np.linalg.norm(X @ (A - B).T)) / size for B in matrices.values())
    return TourStop(
        capability="Monarch projection, in the metric of data",
        purpose="Compresses weights so that their answers to the data at hand change least.",
        code=(
            "M = linalg_ml.monarch.project(A, nblocks=8, weights=X.T @ X, tol=1e-3)\n"
            "Y = M.apply_rows(X)  # stands for X @ A.T\n"
            "claim = M.weighted_error  # ‖X @ A.T - Y‖_F"
        ),
        data="weights that remove noise from the digits (scikit-learn)",
        size=f"{A.shape[0]} × {A.shape[1]}",
        quality=(
            f"rms error {ours:.3f} on unseen digits with a quarter of the numbers; all weights {full:.3f}, the best "
            f"matrix of low rank with as many numbers {theirs:.3f}"
        ),
        error_name="‖XAᵀ − XMᵀ‖_F / ‖XAᵀ‖_F",
        claimed_error=M.weighted_error / size,
        true_error=change,
        seconds=seconds,
        usual_tool="numpy.linalg.svd of A L, LLᵀ = XᵀX",
        usual_seconds=usual_seconds,
        bytes_before=A.nbytes,
        bytes_after=M.nbytes,
        picture=lambda figure: _draw_digits(figure, data, matrices),
        caption=(
            f"Unseen digits. Compression changes the answers by {100 * change:.0f} % as a Monarch matrix, by "
            f"{100 * other_change:.0f} % as the best matrix of low rank."
        ),
    )


class _Digits(NamedTuple):
    """Weights learnt on the first 1200 digits, those digits, and the others; less the mean of the first."""

    weights: np.ndarray
    noisy: np.ndarray
    fresh: np.ndarray
    clean: np.ndarray
    mean: np.ndarray


def _digits() -> _Digits:
    from sklearn.datasets import load_digits

    clean = load_digits().data / 16
    noisy = _with_noise(clean, _DIGITS_NOISE, 0)
    mean = clean[:1200].mean(axis=0)
    clean, noisy = clean - mean, noisy - mean
    return _Digits(_ridge(noisy[:1200], clean[:1200]), noisy[:1200], noisy[1200:], clean[1200:], mean)


# --- parts of both ------------------------------------------------------------------------------------------


def _image() -> tuple[np.ndarray, str]:
    """Return a photograph in grey, shape (height, width); without Pillow, which reads it, digits in rows."""
    from sklearn.datasets import load_digits, load_sample_image

    try:
        return load_sample_image("china.jpg").mean(axis=2) / 255, "china.jpg (scikit-learn)"
    except ImportError:
        digits = load_digits().images[:1764].reshape(42, 42, 8, 8) / 16
        return digits.swapaxes(1, 2).reshape(336, 336), "the digits (scikit-learn), laid out in rows"


def _with_noise(A: np.ndarray, size: float, seed: int) -> np.ndarray:
    return A + size * np.random.default_rng(seed).standard_normal(A.shape)


def _patches(image: np.ndarray, step: int) -> np.ndarray:
    """Return patches as rows, at every `step`-th place in both directions."""
    windows = np.lib.stride_tricks.sliding_window_view(image, (_SIDE, _SIDE))[::step, ::step]
    return windows.reshape(-1, _SIDE**2)


def _ridge(X: np.ndarray, Y: np.ndarray) -> np.ndarray:
    """Return the weights A that minimise ‖X Aᵀ - Y‖² + α ‖A‖², α = 10⁻³ for each sample."""
    gram = X.T @ X + 1e-3 * len(X) * np.eye(X.shape[1])
    return np.linalg.solve(gram, X.T @ Y).T


def _cleaned(image: np.ndarray, weights: np.ndarray, mean: float) -> np.ndarray:
    """Apply the weights to overlapping patches, and take the mean where they overlap."""
    step = _SIDE // 2
    rows, columns = (1 + (size - _SIDE) // step for size in image.shape)
    patches = ((_patches(image, step) - mean) @ weights.T + mean).reshape(rows, columns, _SIDE, _SIDE)
    total, count = np.zeros((2, *image.shape))
    for r in range(rows):
        for c in range(columns):
            at = np.s_[r * step : r * step + _SIDE, c * step : c * step + _SIDE]
            total[at] += patches[r, c]
            count[at] += 1
    return np.where(count, total / np.maximum(count, 1), image)


def _decibels(picture: np.ndarray, image: np.ndarray) -> float:
    """Return the peak signal-to-noise ratio, borders without patches left out."""
    inner = np.s_[: image.shape[0] // _SIDE * _SIDE, : image.shape[1] // _SIDE * _SIDE]
    return float(-10 * np.log10(np.mean((picture[inner] - image[inner]) ** 2)))


def _slices_by_svd(A: np.ndarray, nblocks: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the factors of the same projection, by the batched SVD of LAPACK."""
    S = A.reshape(A.shape[0] // nblocks, nblocks, nblocks, -1).transpose(2, 1, 0, 3)
    u, s, vh = np.linalg.svd(S, full_matrices=False)
    root = np.sqrt(s[..., :1])
    return u[..., :1] * root[..., None], root[..., None] * vh[..., :1, :]


def _truncated(A: np.ndarray, rank: int, X: np.ndarray | None = None) -> np.ndarray:
    """Return the nearest matrix of low rank, in the metric of the rows of X if there are any."""
    L = np.eye(A.shape[1]) if X is None else np.linalg.cholesky(X.T @ X)
    u, s, vh = np.linalg.svd(A @ L, full_matrices=False)
    return np.linalg.solve(L.T, ((u[:, :rank] * s[:rank]) @ vh[:rank]).T).T


def _draw_photograph(figure: Any, pictures: dict[str, np.ndarray], decibels: dict[str, float]) -> None:
    detail = np.s_[120:250, 120:310]
    for ax, (name, picture) in zip(figure.subplots(2, 2).flat, pictures.items(), strict=True):
        ax.imshow(picture[detail], cmap="gray", vmin=0, vmax=1)
        ax.set_title(f"{name}: {decibels[name]:.1f} dB", fontsize="small")
        ax.set_axis_off()


def _draw_digits(figure: Any, data: _Digits, matrices: dict[str, np.ndarray]) -> None:
    some = slice(2, 10)
    rows = {"noisy": data.fresh[some], **{name: data.fresh[some] @ B.T for name, B in matrices.items()}}
    for ax, (name, images) in zip(figure.subplots(4, 1), rows.items(), strict=True):
        strip = (images + data.mean).reshape(-1, 8, 8).swapaxes(0, 1).reshape(8, -1)
        ax.imshow(strip, cmap="gray_r", vmin=0, vmax=1)
        ax.set_title(name, fontsize="small", loc="left")
        ax.set_axis_off()
