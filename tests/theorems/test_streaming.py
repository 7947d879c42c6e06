"""What theory promises of streams: heavy rows, either-or, growth of rates, deterministic sketches; over seeds."""

import numpy as np
import pytest
from streaming.streams import exact, hard, heavy, powerspec, spiked, split

from linalg_ml.streaming import FrequentDirections, top_eigenvector

# --- heavy rows must be kept, and no fixed rate will do ----------------------------------------------------


def oja_errors(X, truth, rates, seed):
    """Return the errors of plain Oja with fixed rates."""
    rng = np.random.default_rng(seed)
    V = np.tile(rng.standard_normal(X.shape[1]), (len(rates), 1))
    V /= np.linalg.norm(V, axis=1, keepdims=True)
    for a in X:
        V += (rates * (V @ a))[:, None] * a
        V /= np.linalg.norm(V, axis=1, keepdims=True)
    return np.array([truth.err(v) for v in V])


@pytest.mark.parametrize("seed", range(3))
def test_every_fixed_rate_fails_where_heavy_rows_are_kept(seed):
    X = hard(8000, 200, 3, seed)
    truth = exact(X)
    assert oja_errors(X, truth, 2.0 ** np.arange(-9, 6), seed).min() >= 0.9
    for method in ("subspace", "random-order"):
        result = top_eigenvector(X, method=method, rng=seed)
        assert truth.err(result.vector) <= 1e-12
        assert truth.err(result.vector) <= result.error


@pytest.mark.parametrize("seed", range(3))
def test_the_largest_row_is_no_answer(seed):
    X = hard(8000, 300, 3, seed)
    rng = np.random.default_rng(seed)
    X = np.insert(X, rng.integers(0, X.shape[0]), 1.1 * np.eye(300)[1], axis=0)
    X = X @ np.linalg.qr(rng.standard_normal((300, 300)))[0]
    truth = exact(X)
    largest = X[np.argmax(np.linalg.norm(X, axis=1))]
    assert truth.err(largest / np.linalg.norm(largest)) > 0.9
    for method in ("auto", "random-order"):
        assert truth.err(top_eigenvector(X, method=method, rng=seed).vector) <= 1e-12


@pytest.mark.filterwarnings("ignore:all rows kept aside")
@pytest.mark.parametrize("h", [10, 40, 60])
def test_room_for_all_heavy_rows_is_what_it_takes(h):
    for seed in range(3):
        X = heavy(9000, 250, 2, h, seed)
        truth = exact(X)
        enough = truth.err(top_eigenvector(X, max_heavy=h, rng=seed).vector)
        too_few = truth.err(top_eigenvector(X, max_heavy=h // 2, rng=seed).vector)
        assert enough <= 2e-3
        assert too_few >= 5 * enough


# --- random order: block power, either light or heavy ------------------------------------------------------


@pytest.mark.parametrize("R", [8, 32, 128])
def test_either_or_is_within_its_bound_and_no_better(R):
    # M_L + M_H = AᵀA: the part of more energy along v₁ errs by (2/R)/(1 - 2/R)² at most; `split` shows 1/(R + 1).
    for seed in range(3):
        X = split(8000, 250, R, 20, seed)
        truth = exact(X)
        err = truth.err(top_eigenvector(X, method="random-order", rng=seed).vector)
        assert err <= (2 / truth.R) / (1 - 2 / truth.R) ** 2
        assert 0.75 / (R + 1) <= err <= 1.3 / (R + 1)
        assert truth.err(top_eigenvector(X, rng=seed).vector) <= 1e-2 * err


def test_sampling_error_of_the_last_block():
    # Matrix Bernstein without replacement: ‖t·A_pᵀA_p - AᵀA‖ ≤ √(2tθσ₁² ln(2dt/δ)) + ⅔tθ ln(2dt/δ), then over the gap.
    for seed in range(5):
        X = spiked(8000, 250, 20, seed, np.float64)
        truth = exact(X)
        theta, t, delta = (X**2).sum(axis=1).max(), 4, 0.05
        log = np.log(2 * 250 * t / delta)
        bound = np.sqrt(2 * t * theta * truth.values[0] * log) + 2 / 3 * t * theta * log
        part = X[np.random.default_rng(seed).permutation(8000)[: 8000 // t]]
        assert np.linalg.norm(t * part.T @ part - X.T @ X, 2) <= bound
        err = truth.err(top_eigenvector(X, method="random-order", max_heavy=0, rng=seed).vector)
        assert err <= (bound / (truth.values[0] - truth.values[1])) ** 2 + 1e-3


# --- arbitrary order: growth of Oja's rates ----------------------------------------------------------------


@pytest.mark.parametrize("order", ["random", "up", "down"])
def test_oja_in_any_order(order):
    d = 40
    for seed in range(4):
        X = spiked(2000, d, 250 + 400 * (seed % 2), seed, np.float64)
        truth = exact(X)
        assert 40 * np.log(d) <= truth.R
        along = np.argsort(np.abs(X @ truth.vectors[0]))
        X = {"random": X, "up": X[along], "down": X[along[::-1]]}[order]
        result = top_eigenvector(X, method="oja", rng=seed)
        assert truth.err(result.vector) <= 20 * np.log(d) / truth.R
        assert truth.err(result.vector) <= result.error


# --- the tail-corrected iteration --------------------------------------------------------------------------


def test_error_is_of_second_order_on_flat_tails():
    # Four times the rows: a sixteenth of the error (d/n squared), where a first-order method gains a quarter.
    errors = {4000: [], 16000: []}
    for seed in range(4):
        for n, found in errors.items():
            X = spiked(n, 250, 4, seed)
            found.append(exact(X).err(top_eigenvector(X, rng=seed).vector))
    assert np.median(errors[4000]) > 8 * np.median(errors[16000])


# --- Frequent Directions ------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [5, 20])
def test_frequent_directions(size):
    for seed in range(5):
        for A in (powerspec(900, 60, 1, seed, np.float64), spiked(900, 60, 4, seed, np.float64)):
            sketches = [FrequentDirections(60, size).update(part) for part in np.array_split(A, 3)]
            merged = sketches[0].merge(sketches[1]).merge(sketches[2])
            energies = np.linalg.svd(A, compute_uv=False) ** 2
            bound = min(energies[k:].sum() / (size - k) for k in range(size))
            for sketch in (FrequentDirections(60, size).update(A), merged):
                B = sketch.sketch()
                lost = np.linalg.eigvalsh(A.T @ A - B.T @ B)
                assert lost[0] >= -1e-9 * energies[0]
                assert lost[-1] <= sketch.error * (1 + 1e-9)
                assert sketch.error <= bound * (1 + 1e-9)
