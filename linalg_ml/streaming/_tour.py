"""The wing's stop on the tour: the leading principal component of a photograph's patches, drawn one after the other."""

import time
from typing import Any, NamedTuple

import numpy as np

from .._core.tour import TourStop, timed

_SIDE = 24  # of a patch, in pixels
_STEP = 3  # between patches


def stop() -> TourStop:
    """Find the direction in which patches vary most, beside scikit-learn's IncrementalPCA."""
    patches, source = _patches()
    blocks = [patches[first : first + 1000] for first in range(0, len(patches), 1000)]
    result, seconds = timed(lambda: _answer(blocks), 5)
    run = _run(patches)
    exact = run.exact[-1]
    true_error, other_error = _error(result.vector, exact), _error(run.usual, exact)
    return TourStop(
        capability="Streaming PCA",
        purpose="Finds leading eigenvectors of rows that are seen once and not kept, and says how accurate they are.",
        code=(
            "stream = linalg_ml.streaming.TopEigenvectorStream(center=True)\n"
            "for block in blocks:\n"
            "    stream.update(block)\n"
            "result = stream.result()\n"
            "claim = result.error"
        ),
        data=f"{_SIDE} × {_SIDE} patches of {source}, each less its mean, drawn at random",
        size=f"{patches.shape[0]} × {patches.shape[1]}",
        quality=f"first component off by {true_error:.0e}; that of IncrementalPCA by {other_error:.0e}",
        error_name="1 − ⟨v, v₁⟩², where v₁ is the first principal component of all patches",
        claimed_error=result.error,
        true_error=true_error,
        seconds=seconds,
        usual_tool="IncrementalPCA(n_components=1)",
        usual_seconds=run.seconds,
        bytes_before=patches.nbytes,
        bytes_after=result.memory_used,
        picture=lambda figure: _draw(figure, run, result.vector),
        caption=(
            "How far the first component is off while patches arrive, and what the stream says of it; beside it "
            "IncrementalPCA from its second portion on. At the right the answers in the end, and how they differ from "
            "the exact one, magnified alike."
        ),
    )


class _Run(NamedTuple):
    """Both methods on the patches seen so far, after every portion of scikit-learn's usual size."""

    n_seen: np.ndarray
    exact: list[np.ndarray]  # first components of the patches seen
    true: np.ndarray
    claimed: np.ndarray
    usual_true: np.ndarray
    usual: np.ndarray  # scikit-learn's last answer
    seconds: float  # that scikit-learn took


def _run(patches: np.ndarray) -> _Run:
    from sklearn.decomposition import IncrementalPCA

    from . import TopEigenvectorStream

    n, d = patches.shape
    stream, usual, seconds = TopEigenvectorStream(center=True, rng=0), IncrementalPCA(n_components=1), 0.0
    gram, total = np.zeros((d, d)), np.zeros(d)
    n_seen, exact, errors = [], [], []
    for first in range(0, n, 5 * d):
        portion = patches[first : first + 5 * d]
        result = stream.update(portion).result()
        start = time.perf_counter()
        usual.partial_fit(portion)
        seconds += time.perf_counter() - start
        wide = portion.astype(np.float64)
        gram, total = gram + wide.T @ wide, total + wide.sum(axis=0)
        exact.append(np.linalg.eigh(gram - np.outer(total, total) / stream.n_rows)[1][:, -1])
        n_seen.append(stream.n_rows)
        errors.append((_error(result.vector, exact[-1]), result.error, _error(usual.components_[0], exact[-1])))
    true, claimed, usual_true = np.array(errors).T
    return _Run(np.array(n_seen), exact, true, claimed, usual_true, usual.components_[0], seconds)


def _error(v: np.ndarray, exact: np.ndarray) -> float:
    """Return 1 - <v, exact>² for unit vectors, without cancellation."""
    v = v.astype(np.float64) / np.linalg.norm(v.astype(np.float64))
    return float(np.linalg.norm(v - (v @ exact) * exact) ** 2)


def _patches() -> tuple[np.ndarray, str]:
    """Return grey patches as rows, each less its mean, in random order."""
    from sklearn.datasets import load_digits, load_sample_image

    try:
        image, source = load_sample_image("china.jpg").mean(axis=2) / 255, "china.jpg (scikit-learn)"
    except ImportError:  # Pillow reads it
        digits = load_digits().images[:1024].reshape(32, 32, 8, 8) / 16
        image, source = digits.swapaxes(1, 2).reshape(256, 256), "the digits (scikit-learn), laid out in rows"
    windows = np.lib.stride_tricks.sliding_window_view(image, (_SIDE, _SIDE))[::_STEP, ::_STEP]
    rows = windows.reshape(-1, _SIDE**2).astype(np.float32)
    rows -= rows.mean(axis=1, keepdims=True)
    return rows[np.random.default_rng(0).permutation(len(rows))], source


def _answer(blocks: list[np.ndarray]) -> Any:
    """Return the stream's answer."""
    from . import TopEigenvectorStream

    stream = TopEigenvectorStream(center=True, rng=0)
    for block in blocks:
        stream.update(block)
    return stream.result()


def _draw(figure: Any, run: _Run, vector: np.ndarray) -> None:
    axes = figure.subplot_mosaic("eeeab;eeecd", width_ratios=(1, 1, 1, 1, 1))
    errors = axes["e"]
    # The first portion fits in memory whole, and scikit-learn's answer to it is exact.
    errors.semilogy(run.n_seen[1:], run.usual_true[1:], "s-", color="C1", label="IncrementalPCA, true")
    errors.semilogy(run.n_seen, run.claimed, "--", color="C0", label="stream, claimed")
    errors.semilogy(run.n_seen, run.true, "o-", color="C0", label="stream, true")
    errors.set(xlabel="patches seen", ylabel="error, 1 − ⟨v, v₁⟩²")
    errors.legend(fontsize="small")
    exact = run.exact[-1]
    shown = {"a": ("stream", vector), "c": ("IncrementalPCA", run.usual)}
    vectors = {name: v * np.sign(v @ exact) for name, (_, v) in shown.items()}
    most = max(float(np.abs(v - exact).max()) for v in vectors.values())
    for name, (title, _) in shown.items():
        v, beside = vectors[name], axes["b" if name == "a" else "d"]
        axes[name].imshow(v.reshape(_SIDE, _SIDE), cmap="RdBu", vmin=-np.abs(v).max(), vmax=np.abs(v).max())
        axes[name].set_title(title, fontsize="small")
        beside.imshow((v - exact).reshape(_SIDE, _SIDE), cmap="RdBu", vmin=-most, vmax=most)
        beside.set_title("off by", fontsize="small")
        for ax in (axes[name], beside):
            ax.set_axis_off()
