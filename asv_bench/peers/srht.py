"""Sketches of a tall matrix against SciPy's and scikit-learn's, and against the speed of reading it once."""

import numpy as np
from _harness import Run, read_bandwidth
from scipy.linalg import clarkson_woodruff_transform
from sklearn.random_projection import GaussianRandomProjection, SparseRandomProjection

from linalg_ml.sketching import SRHT, CountSketch, Gaussian, SparseSign

BLOCK_ROWS = 2**11  # of A, in the one buffer that SRHT works in
TABLE_BYTES = 2**18  # signs, places and flips of the rows at hand


def main():
    run = Run(__doc__)
    n, d, sizes = (2**14, 16, (64, 128)) if run.quick else (2**20, 64, (128, 512, 2048))
    A = np.random.default_rng(0).standard_normal((n, d))
    rate = read_bandwidth(A)
    print(f"\nOne thread reads the {n} × {d} matrix ({A.nbytes / 1e6:.0f} MB) at {rate / 1e9:.1f} GB/s.")
    for m in sizes:
        title = f"{m} rows of a sketch of {n} × {d} float64"
        report(run, A, m, rate, run.compare(title, sketches(n, m), (A,), memory=True))


def sketches(n, m):
    """Return the named sketches. Every call draws its own, as the peers' do."""
    functions = {kind.__name__: ours(kind, n, m) for kind in (SRHT, SparseSign, CountSketch)}
    functions["scipy clarkson_woodruff_transform"] = lambda A: clarkson_woodruff_transform(A, m, rng=0)
    functions["sklearn SparseRandomProjection"] = projection(SparseRandomProjection, m)
    if n * m <= 2**27:  # scikit-learn holds the whole Gaussian matrix: here up to 1 GB
        functions["Gaussian"] = ours(Gaussian, n, m)
        functions["sklearn GaussianRandomProjection"] = projection(GaussianRandomProjection, m)
    return functions


def ours(kind, n, m):
    return lambda A: kind(n, m, rng=0) @ A


def projection(kind, m):
    return lambda A: kind(m, random_state=0).fit_transform(A.T)


def report(run, A, m, rate, timings):
    """Print how SRHT does against one pass over A, and against the memory of one block, its tables and the result."""
    fraction = A.nbytes / run.seconds(timings["SRHT"]) / rate
    if m <= 512:
        run.goal("SRHT, fraction of the read rate", fraction, least=0.18, aim=0.25)
    else:
        print(f"\n- SRHT, fraction of the read rate: {fraction:.3g}")
    allowed = A.itemsize * A.shape[1] * (BLOCK_ROWS + m) + TABLE_BYTES
    run.goal("SRHT, extra memory in MB", timings["SRHT"].memory / 1e6, most=allowed / 1e6)


if __name__ == "__main__":
    main()
