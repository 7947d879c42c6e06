"""Sketching: time, memory and accuracy of the transforms and of every operator."""

import numpy as np
from scipy import sparse
from scipy.linalg import qr, svdvals
from scipy.special import ndtri

from linalg_ml import sketching
from linalg_ml.sketching import (
    SketchedLinearRegression,
    SubsampledHadamardProjection,
    TensorSRHT,
    fwht,
    lstsq,
    sketched_lstsq,
)

METHODS = "gram", "sketch", "qr"
OPERATORS = "SRHT", "SRTT", "Gaussian", "SparseSign", "CountSketch"
DTYPES = "float32", "float64"


def normal(shape, dtype="float64"):
    return np.random.default_rng(0).standard_normal(shape, dtype)


def operator(name, n, m, rng=0):
    return getattr(sketching, name)(n, m, rng=rng)


class FWHT:
    """The fast Walsh–Hadamard transform along the first axis."""

    params = ((2**17, 32), (2**21,)), DTYPES
    param_names = "shape", "dtype"

    def setup(self, shape, dtype):
        self.x = normal(shape, dtype)
        self.time_fwht(shape, dtype)

    def time_fwht(self, shape, dtype):
        fwht(self.x, axis=0)


class FWHTRounding:
    """The forward error of the transform in float32, beside float64."""

    params = 2**10, 2**20
    param_names = ("n",)
    unit = "relative error"

    def track_float32(self, n):
        x = normal(n, "float32")
        exact = fwht(x.astype("float64"))
        return float(np.linalg.norm(fwht(x) - exact) / np.linalg.norm(exact))


class Apply:
    """``S @ A`` for a dense tall A; the operator is made anew, so that its drawing is counted."""

    n, d = 2**16, 32
    params = OPERATORS, (64, 512), DTYPES
    param_names = "operator", "n_sketch", "dtype"

    def setup(self, name, n_sketch, dtype):
        self.A = normal((self.n, self.d), dtype)
        self.time_apply(name, n_sketch, dtype)

    def time_apply(self, name, n_sketch, dtype):
        operator(name, self.n, n_sketch) @ self.A


class ApplySparse:
    """``S @ A`` for a sparse A, ten entries in a row."""

    n, d = 2**17, 1000
    params = "SparseSign", "CountSketch"
    param_names = ("operator",)

    def setup(self, name):
        columns = np.random.default_rng(0).integers(0, self.d, 10 * self.n)
        A = normal(columns.size), columns, np.arange(0, columns.size + 1, 10)
        self.A = sparse.csr_array(A, shape=(self.n, self.d))
        self.time_apply(name)

    def time_apply(self, name):
        operator(name, self.n, 4 * self.d) @ self.A


class ApplyKron:
    """The sketch of Kronecker products of columns, of which none is formed."""

    params = "all", "matched"
    param_names = ("pairing",)

    def setup(self, pairing):
        self.S = TensorSRHT((2**12, 2**12), 2048, rng=0)
        self.factors = normal((2, 2**12, 32))
        self.time_apply_kron(pairing)

    def time_apply_kron(self, pairing):
        self.S.apply_kron(*self.factors, pairing=pairing)


class Projection:
    """The estimator: samples in rows, so the sketch runs along their features."""

    params = DTYPES
    param_names = ("dtype",)

    def setup(self, dtype):
        self.X = normal((1000, 2**12), dtype)
        self.projection = SubsampledHadamardProjection(n_components=256, random_state=0).fit(self.X)
        self.time_transform(dtype)

    def time_transform(self, dtype):
        self.projection.transform(self.X)


class Memory:
    """The peak of the whole process, the interpreter and the input included: what matters is its change.

    The input is 64 MB, for `apply_kron` 16 MB.
    """

    n, d = 2**18, 32
    params = "fwht", *OPERATORS, "apply_kron", "transform"
    param_names = ("call",)

    def setup(self, call):
        self.A = normal((2, self.n // 8, self.d) if call == "apply_kron" else (self.n, self.d))

    def peakmem_call(self, call):
        if call == "fwht":
            fwht(self.A, axis=0)
        elif call == "apply_kron":
            TensorSRHT((self.n // 8, self.n // 8), 512, rng=0).apply_kron(*self.A, pairing="matched")
        elif call == "transform":
            projection = SubsampledHadamardProjection(n_components=512, random_state=0)
            projection.fit_transform(self.A.reshape(-1, 4096))
        else:
            operator(call, self.n, 512) @ self.A


class Distortion:
    """The worst distortion max |σ(S U) − 1| over fixed seeds, at four sketch rows for each column of U.

    Identity columns are as coherent as columns get, and lie as a Hadamard matrix likes them least: next to
    each other, or at a stride that is a power of two. A good sketch has about √(d/m) = 0.5; 1 is singular.
    """

    n, d, seeds = 4096, 32, range(5)
    params = OPERATORS, ("identity", "Gaussian")
    param_names = "operator", "columns"
    unit = "max|σ−1|"

    def setup(self, name, columns):
        if columns == "identity":
            identity = np.eye(self.n)
            self.bases = [identity[:, : self.d], identity[:, :: self.n // self.d]]
        else:
            self.bases = [qr(normal((self.n, self.d)), mode="economic")[0]]

    def track_distortion(self, name, columns):
        sketches = [operator(name, self.n, 4 * self.d, rng=seed) for seed in self.seeds]
        return max(distortion(S, U) for S in sketches for U in self.bases)


def distortion(S, U):
    return float(np.max(np.abs(svdvals(S @ U) - 1)))


def regression(n, d, condition=1.0):
    """Return A of a given condition number with random singular vectors on the right, and a noisy b."""
    A = normal((n, d)) / np.sqrt(n)
    if condition > 1:
        V = qr(np.random.default_rng(1).standard_normal((d, d)))[0]
        A = A @ (V * np.geomspace(1, 1 / condition, d)) @ V.T
    return A, A @ np.ones(d) + 1e-3 * np.random.default_rng(2).standard_normal(n)


class Lstsq:
    """Least squares to full accuracy, by each method."""

    params = ((30_000, 100), (16_000, 200)), METHODS
    param_names = "shape", "method"

    def setup(self, shape, method):
        self.A, self.b = regression(*shape)
        self.time_lstsq(shape, method)

    def time_lstsq(self, shape, method):
        lstsq(self.A, self.b, method=method, rng=0)


class LstsqMemory:
    """The peak of the whole process; A is 51 MB."""

    params = "gram", "sketch"
    param_names = ("method",)

    def setup(self, method):
        self.A, self.b = regression(32_000, 200)

    def peakmem_lstsq(self, method):
        lstsq(self.A, self.b, method=method, rng=0)


class LstsqAccuracy:
    """The backward error of Karlson and Waldén in units of roundoff, worst of well and ill conditioned."""

    conditions = 1e2, 1e6, 1e12
    params = METHODS
    param_names = ("method",)
    unit = "u"

    def track_backward_error(self, method):
        problems = [regression(8000, 100, condition) for condition in self.conditions]
        errors = [backward_error(A, b, lstsq(A, b, method=method, rng=0).x) for A, b in problems]
        return max(errors) / (np.finfo(float).eps / 2)


def backward_error(A, b, x):
    _, values, Vh = np.linalg.svd(A, full_matrices=False)
    r = b - A @ x
    scaled = Vh @ (A.T @ r) / np.hypot(values, np.linalg.norm(r) / np.linalg.norm(x))
    return float(np.linalg.norm(scaled) / (np.linalg.norm(x) * np.linalg.norm(A)))


class SketchedLstsq:
    """Sketch and solve."""

    params = "srht", "sparse_sign"
    param_names = ("sketch",)

    def setup(self, sketch):
        self.A, self.b = regression(30_000, 100)
        self.time_sketched_lstsq(sketch)

    def time_sketched_lstsq(self, sketch):
        sketched_lstsq(self.A, self.b, n_sketch=3000, sketch=sketch, rng=0)


class SketchedLstsqAccuracy:
    """The largest error of a coordinate over the bound of the theorem, worst of a few seeds; 1 violates it.

    On A = [I; 0] and residuals of few spikes, where sparse sketches do violate it.
    """

    n, d, delta, n_sketch, seeds, spikes = 8192, 32, 0.01, 1697, range(5), (1, 2, 53)
    params = "srht", "srtt"
    param_names = ("sketch",)
    unit = "of the bound"

    def track_linf_error(self, sketch):
        A, b = np.eye(self.n, self.d), np.zeros((self.n, len(self.spikes)))
        for j, k in enumerate(self.spikes):
            b[self.d :: (self.n - self.d) // k, j][:k] = 1 / np.sqrt(k)
        # ‖A†‖ = ‖b - A x‖ = 1 and x = 0, so the bound is ε/√d with the ε that n_sketch rows give
        bound = -ndtri(self.delta / (2 * self.d)) / np.sqrt(self.n_sketch - self.d - 1)
        solutions = (sketched_lstsq(A, b, n_sketch=self.n_sketch, sketch=sketch, rng=seed).x for seed in self.seeds)
        return float(max(np.abs(x).max() for x in solutions) / bound)


class PartialFit:
    """One block of a stream of samples."""

    def setup(self):
        self.X, self.y = regression(4000, 100)
        self.model = SketchedLinearRegression(n_sketch=1000, random_state=0).partial_fit(self.X, self.y)

    def time_partial_fit(self):
        self.model.partial_fit(self.X, self.y)
