"""The ℓ∞ guarantee of sketched least squares: dense sketches keep it, sparse ones break it on their hard instances."""

import numpy as np
import pytest
from matrices import ill_conditioned

from linalg_ml.sketching import sketched_lstsq

N, D, EPS, DELTA = 8192, 32, 0.5, 0.01
M = 1697  # rows of the sketch that these ask for
SPIKES = (1, 2, M // D)  # the worst for CountSketch is m/d, for SparseSign 3m/(s²d) = 2
SEEDS = range(50)


def right_hand_sides(A, *, seed):
    rng = np.random.default_rng(seed)
    return A @ rng.standard_normal(A.shape[1]) + rng.standard_normal(A.shape[0])


def hard():
    """Return [I; 0], and a right-hand side of k spikes on rows of zeros for every k."""
    rng = np.random.default_rng(1)
    A, b = np.eye(N, D), np.zeros((N, len(SPIKES)))
    b[:D] = 1.0
    for j, k in enumerate(SPIKES):
        b[rng.choice(np.arange(D, N), k, replace=False), j] = rng.choice([-1, 1], k) / np.sqrt(k)
    return A, b


def strided():
    A = np.zeros((N, D))
    A[np.arange(D) * 256, np.arange(D)] = 1
    return A


MATRICES = {
    "Gaussian": lambda: np.random.default_rng(2).standard_normal((N, D)),
    "cond 1e4": lambda: ill_conditioned(N, D, 1e4),
    "Student t(2) rows": lambda: np.random.default_rng(3).standard_t(2, (N, D)),
    "stride 256": strided,
}


class Problem:
    """Data, the exact solution and the right side of the theorem, for every column of b."""

    def __init__(self, A, b):
        self.A, self.b = A, b.reshape(N, -1)
        self.exact = np.linalg.lstsq(A, self.b)[0]
        r_norm = np.linalg.norm(self.b - A @ self.exact, axis=0)
        self.theorem = EPS / np.sqrt(D) * r_norm / np.linalg.svd(A, compute_uv=False)[-1]

    def errors(self, **options):
        """Yield (|x - x*|, result) for every seed."""
        for seed in SEEDS:
            result = sketched_lstsq(self.A, self.b, eps=EPS, delta=DELTA, rng=seed, **options)
            assert (result.n_sketch, result.method) == (M, "sketch")
            yield np.abs(result.x - self.exact), result


@pytest.fixture(scope="module", params=["hard", *MATRICES])
def problem(request):
    if request.param == "hard":
        return Problem(*hard())
    A = MATRICES[request.param]()
    return Problem(A, right_hand_sides(A, seed=4))


@pytest.fixture(scope="module")
def hard_problem():
    return Problem(*hard())


def test_srht_keeps_the_bound_and_certifies_it(problem):
    violations = certified = covered = 0
    for error, result in problem.errors(error=True):
        largest = error.max(axis=0)
        violations = violations + (largest > problem.theorem)
        certified = certified + (largest <= result.linf_bound)
        covered = covered + (error <= result.error).all(axis=0)
    assert np.max(violations) <= 3
    assert np.min(certified) == len(SEEDS)
    assert np.min(covered) >= 47


def test_jackknife_covers(problem):
    covered = sum((error <= result.error).all(axis=0) for error, result in problem.errors(error="jackknife"))
    assert np.min(covered) >= 47


@pytest.mark.parametrize("sketch", ["srtt", "gaussian"])
def test_other_dense_sketches_keep_it(hard_problem, sketch):
    seeds, violations = range(8), 0
    for seed in seeds:
        result = sketched_lstsq(hard_problem.A, hard_problem.b, eps=EPS, rng=seed, sketch=sketch, error=True)
        error = np.abs(result.x - hard_problem.exact)
        violations = violations + (error.max(axis=0) > hard_problem.theorem)
        assert (error.max(axis=0) <= result.linf_bound).all()
    assert np.max(violations) <= 2


def test_certificate_is_not_far_above_the_theorem():
    rng = np.random.default_rng(5)
    A = np.linalg.qr(rng.standard_normal((N, D)))[0]
    problem = Problem(A, right_hand_sides(A, seed=6))
    for _, result in problem.errors():
        assert result.linf_bound <= 2 * problem.theorem


@pytest.mark.parametrize(("sketch", "spikes"), [("countsketch", M // D), ("sparse_sign", 2)])
def test_sparse_sketches_break_it(hard_problem, sketch, spikes):
    violations = np.zeros(len(SPIKES))
    for error, result in hard_problem.errors(sketch=sketch):
        assert result.linf_bound is None
        violations += error.max(axis=0) > hard_problem.theorem
    assert violations[SPIKES.index(spikes)] >= 25


def test_given_size_counts_and_not_the_accuracy_asked_for(hard_problem):
    # the certificate of fewer rows is wider, and holds
    wide, narrow = (sketched_lstsq(hard_problem.A, hard_problem.b, eps=EPS, n_sketch=m, rng=0) for m in (200, 2000))
    assert (wide.linf_bound > 2 * narrow.linf_bound).all()
    for seed in SEEDS:
        result = sketched_lstsq(hard_problem.A, hard_problem.b, n_sketch=200, rng=seed, error=True)
        error = np.abs(result.x - hard_problem.exact)
        assert (error.max(axis=0) <= result.linf_bound).all()
