"""Monarch matrices: time, memory and accuracy of projections, products, systems, transforms and recovery."""

import tempfile
from pathlib import Path

import numpy as np
from scipy.fft import dct, fft

from linalg_ml import monarch

DTYPES = "float32", "float64"


def normal(shape, dtype="float64"):
    rng = np.random.default_rng(0)
    if np.dtype(dtype).kind == "c":
        return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(dtype)
    return rng.standard_normal(shape, dtype)


def matrix(n, nblocks, rank=1, dtype="float64"):
    """Return a random n × n Monarch matrix."""
    size = n // nblocks
    left = normal((nblocks, size, nblocks, rank), dtype)
    return monarch.MonarchMatrix(left, left[::-1].transpose(2, 3, 0, 1).copy())


def excess(A, M):
    """Return the energy that M loses beyond the least, over that of A, in float64 and with the factors cast up."""
    (J, K), rank = M.nblocks, M.rank
    S = A.astype(np.float64).reshape(-1, J, K, A.shape[1] // K).transpose(2, 1, 0, 3)
    U, V = (X.astype(np.float64) for X in (M.left.transpose(2, 0, 1, 3), M.right.transpose(0, 2, 1, 3)))
    least = np.sum(np.linalg.svd(S, compute_uv=False)[..., rank:] ** 2)
    return float((np.sum((S - U @ V) ** 2) - least) / np.sum(S**2))


class Project:
    """The closest Monarch matrix, rank 1: slices that need many steps, or two (a member), or zeros appended."""

    timeout = 300  # seconds; where no compiled kernel is on disk yet, this one waits for it
    params = "Gaussian float32", "Gaussian float64", "member float64", "padded float32"
    param_names = ("matrix",)

    def setup(self, case):
        name, dtype = case.split()
        shape = (1021, 997) if name == "padded" else (1024, 1024)
        self.A = matrix(1024, 32, dtype=dtype).to_dense() if name == "member" else normal(shape, dtype)
        self.time_project(case)

    def time_project(self, case):
        monarch.project(self.A, nblocks=32, pad=True, rng=0)


KINDS = {
    "rank 2": ((512, 512), "float64", {"rank": 2}),
    "rank 24, 4 × 4 slices": ((1536, 384), "float32", {"rank": 24, "nblocks": 4}),
    "complex": ((512, 512), "complex128", {}),
    "svd": ((512, 512), "float64", {"method": "svd"}),
    "certify": ((512, 512), "float64", {"certify": True}),
    "order 3": ((512, 512), "float64", {"order": 3}),
}


class ProjectRank:
    """Other kinds: higher rank, few large slices, complex, LAPACK on each slice, a certificate, three factors."""

    params = tuple(KINDS)
    param_names = ("case",)

    def setup(self, case):
        shape, dtype, self.options = KINDS[case]
        self.A = normal(shape, dtype)
        self.time_project(case)

    def time_project(self, case):
        monarch.project(self.A, rng=0, **self.options)


class ProjectMemory:
    """The peak of the whole process; A is 64 MB, in memory or in a file whose pages count as they are read."""

    params = "array", "memmap"
    param_names = ("where",)

    def setup(self, where):
        self.A = normal((4096, 4096), "float32")
        if where == "memmap":
            self.folder = tempfile.TemporaryDirectory()
            path = Path(self.folder.name) / "A.npy"
            np.save(path, self.A)
            self.A = np.load(path, mmap_mode="r")

    def teardown(self, where):
        if where == "memmap":
            self.folder.cleanup()

    def peakmem_project(self, where):
        monarch.project(self.A, rng=0)


class ProjectAccuracy:
    """The energy lost beyond the least: of a Gaussian matrix, and where the singular values of slices are double."""

    params = "Gaussian float32", "Gaussian float64", "DCT float64"
    param_names = ("matrix",)
    unit = "of the energy"

    def track_excess_energy(self, case):
        name, dtype = case.split()
        n, b = 256, 16
        A = normal((n, n))
        if name == "DCT":
            A = dct(np.eye(n), axis=0, norm="ortho")[:, np.arange(n).reshape(b, b).T.ravel()]
        A = A.astype(dtype)
        return max(excess(A, monarch.project(A, nblocks=b, rank=rank, rng=0)) for rank in (1, 2))


class MemberAccuracy:
    """The relative error of exact members, of rank 1 and 3; and by what the error of a member with noise is wrong."""

    params = "member", "noise"
    param_names = ("matrix",)
    unit = "relative"

    def track_error(self, name):
        return max(error_of_member(name, rank) for rank in (1, 3))


def error_of_member(name, rank):
    A = matrix(256, 16, rank).to_dense()
    if name == "noise":
        A += 1e-10 * np.random.default_rng(1).standard_normal(A.shape)
    M = monarch.project(A, nblocks=16, rank=rank, rng=0)
    error = np.linalg.norm(A - M.to_dense())
    return float(error / np.linalg.norm(A) if name == "member" else abs(M.error / error - 1))


class Apply:
    """``M @ X`` for one vector and for many."""

    params = (1, 256), DTYPES
    param_names = "columns", "dtype"

    def setup(self, columns, dtype):
        self.M = matrix(2048, 32, dtype=dtype)
        self.X = normal((2048, columns) if columns > 1 else 2048, dtype)
        self.time_apply(columns, dtype)

    def time_apply(self, columns, dtype):
        self.M @ self.X


CALLS = {
    "to_dense": lambda M, b: M.to_dense(),
    "apply_rows": lambda M, b: M.apply_rows(b[None]),
    "solve": lambda M, b: M.solve(b),
    "recompress": lambda M, b: (M + M).recompress(1),
    "dft(1000) @ b": lambda M, b: monarch.dft(1000) @ b[:1000],
    "circulant(b) @ b": lambda M, b: monarch.circulant(b) @ b,
    "from_permutation": lambda M, b: monarch.from_permutation(np.argsort(b)),
}


class Calls:
    """What else one does with a matrix, n = 1024 of rank 1, and the exact forms."""

    params = tuple(CALLS)
    param_names = ("call",)

    def setup(self, call):
        self.M, self.b = matrix(1024, 32), normal(1024)
        self.time_call(call)

    def time_call(self, call):
        CALLS[call](self.M, self.b)


class Search:
    """All shapes of one matrix, recovery of a product of two, descent in the metric of data, the estimator."""

    params = "suggest", "factor_mm", "weights", "MonarchRegressor"
    param_names = ("call",)

    def setup(self, call):
        self.A, self.X = normal((240, 240)), np.random.default_rng(1).standard_normal((500, 64))
        self.member = members_of_mm(256, 16)
        self.time_call(call)

    def time_call(self, call):
        if call == "suggest":
            monarch.suggest(self.A)
        elif call == "factor_mm":
            monarch.factor_mm(self.member, rng=0)
        elif call == "weights":
            monarch.project(self.A[:64, :64], weights=self.X.T @ self.X, tol=0.01, rng=0)
        else:
            monarch.MonarchRegressor(tol=0.01, random_state=0).fit(self.X, self.X @ self.A[:64, :64])


def members_of_mm(n, b):
    """Return blockdiag(A) D blockdiag(C), whose middle factor is diagonal in each of its blocks."""
    s, rng = n // b, np.random.default_rng(6)
    A, C, D = (rng.standard_normal(shape) for shape in ((b, s, s), (b, s, s), (b, b, s)))
    stages = A[None], D.transpose(2, 0, 1)[:, None], C[None]
    return monarch.MonarchMatrix.from_stages(stages).to_dense()


class CallsAccuracy:
    """The relative error of recovery, of a transform against SciPy's, and the backward error of a system."""

    params = "factor_mm", "dft", "solve"
    param_names = ("call",)
    unit = "relative error"

    def track_error(self, call):
        if call == "factor_mm":
            return float(monarch.factor_mm(members_of_mm(256, 16), rng=0).relative_error)
        b = normal(1000)
        if call == "dft":
            return float(np.linalg.norm(monarch.dft(1000) @ b - fft(b)) / np.linalg.norm(fft(b)))
        M = matrix(256, 16)
        b = normal(256)
        x = M.solve(b)
        return float(np.linalg.norm(M @ x - b) / (np.linalg.norm(M.to_dense(), 2) * np.linalg.norm(x)))
