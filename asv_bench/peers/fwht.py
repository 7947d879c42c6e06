"""Fast Walsh–Hadamard transform against the fast transforms and matrices at hand."""

import numpy as np
from _harness import Run
from scipy.fft import dct
from scipy.linalg import hadamard

from linalg_ml.sketching import fwht


def main():
    run = Run(__doc__)
    long, longest, wide = (12, 13, 8) if run.quick else (19, 20, 64)
    for dtype in "float64", "float32":
        against_dct(run, (2**long, 32), dtype)
        timings = against_dct(run, (2**longest, wide), dtype)
        if dtype == "float64":
            ratio = run.ratio(timings, "scipy.fft.dct")
            run.goal("speed against scipy.fft.dct, the largest float64 case", ratio, least=3, aim=4)
    against_dct(run, (2 ** (14 if run.quick else 24),), "float64")
    against_matrix(run)


def against_dct(run, shape, dtype):
    """Compare with a full-length DCT, the fast transform that SciPy users mix rows with."""
    x = np.random.default_rng(0).standard_normal(shape, dtype)
    functions = {"fwht": lambda x: fwht(x, axis=0), "scipy.fft.dct": lambda x: dct(x, axis=0)}
    return run.compare(f"{' × '.join(map(str, shape))} {dtype}", functions, (x,), memory=True)


def against_matrix(run):
    """Compare with the dense matrix where that is an option; making it is not counted."""
    for n in 64, 1024:
        x, H = np.random.default_rng(0).standard_normal((n, 64)), hadamard(n, dtype=float)
        functions = {"fwht": lambda x: fwht(x, axis=0), "scipy.linalg.hadamard @ x": lambda x, H=H: H @ x}
        run.compare(f"{n} × 64 float64", functions, (x,))


if __name__ == "__main__":
    main()
