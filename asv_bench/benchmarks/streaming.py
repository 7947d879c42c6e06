"""Streaming: time, memory and accuracy of one pass over rows, of rows as they arrive, and of merging."""

import tempfile
from pathlib import Path

import numpy as np
from scipy import sparse

from linalg_ml.streaming import FrequentDirections, StreamingPCA, TopEigenvectorStream, top_eigenvector


def spiked(n, d, R=4.0, dtype="float64"):
    """Return Gaussian rows whose first coordinate has R times the energy of the others."""
    X = np.random.default_rng(0).standard_normal((n, d), dtype)
    X[:, 0] *= np.sqrt(R)
    return X


def sparse_rows(n, d, filled):
    """Return CSR rows of positive entries, `filled` a row."""
    rng = np.random.default_rng(0)
    columns = np.sort(rng.integers(0, d // filled, (n, filled)) + d // filled * np.arange(filled)).ravel()
    return sparse.csr_matrix((rng.random(n * filled), columns, np.arange(0, n * filled + 1, filled)), shape=(n, d))


# rows, and how they are treated
CASES = {
    "float64": (lambda: spiked(10000, 500), {}),
    "float32": (lambda: spiked(10000, 500, dtype="float32"), {}),
    "d = 2000": (lambda: spiked(3000, 2000), {}),
    "centred": (lambda: spiked(10000, 500), {"center": True}),
    "CSR": (lambda: sparse_rows(2000, 10000, 100), {}),
    "arbitrary order": (lambda: spiked(5000, 500), {"order": "arbitrary"}),
    "random-order": (lambda: spiked(5000, 500), {"method": "random-order"}),
    "oja": (lambda: spiked(1000, 500), {"method": "oja"}),
    "exact": (lambda: spiked(10000, 200), {"method": "exact"}),
    "certify": (lambda: spiked(10000, 500), {"certify": True}),
}


class OnePass:
    """``top_eigenvector`` of an array in memory."""

    timeout = 300  # seconds; where no compiled kernel is on disk yet, one waits for it
    params = tuple(CASES)
    param_names = ("case",)

    def setup(self, case):
        rows, self.options = CASES[case]
        self.X = rows()
        self.time_top_eigenvector(case)

    def time_top_eigenvector(self, case):
        top_eigenvector(self.X, rng=0, **self.options)


class Update:
    """2560 rows that arrive in portions."""

    timeout = 300
    params = 1, 100, 2560
    param_names = ("rows",)

    def setup(self, rows):
        self.X = spiked(2560, 500)
        self.stream = TopEigenvectorStream(rng=0).update(self.X)
        self.time_update(rows)

    def time_update(self, rows):
        for at in range(0, len(self.X), rows):
            self.stream.update(self.X[at : at + rows])


class Calls:
    """What else one does with a stream that has seen rows, with a sketch, and with the estimator."""

    params = "result", "merge", "save, load", "FrequentDirections", "partial_fit, 512 rows one by one"
    param_names = ("call",)
    timeout = 300

    def setup(self, call):
        self.X = spiked(5000, 500)
        self.stream = TopEigenvectorStream(rng=0).update(self.X)
        self.pca = StreamingPCA(random_state=0).fit(self.X)
        self.folder = tempfile.TemporaryDirectory()
        self.time_call(call)

    def teardown(self, call):
        self.folder.cleanup()

    def time_call(self, call):
        if call == "result":
            self.stream.result()
        elif call == "merge":
            self.stream.copy().merge(self.stream)
        elif call == "save, load":
            path = Path(self.folder.name) / "stream.npz"
            self.stream.save(path)
            TopEigenvectorStream.load(path)
        elif call == "FrequentDirections":
            FrequentDirections(500, 8).update(self.X[:2000])
        else:
            for at in range(512):
                self.pca.partial_fit(self.X[at : at + 1])


class Memory:
    """The peak of the whole process: rows come from a generator, so that no input counts."""

    params = 1000, 20000
    param_names = ("columns",)

    def peakmem_generator(self, columns):
        rng = np.random.default_rng(0)
        top_eigenvector((rng.standard_normal((100, columns)) for _ in range(20)), rng=0)


# rows, in random order
STREAMS = {
    "spiked 4, float32": lambda: spiked(10000, 300, dtype="float32"),
    "1/j": lambda: spiked(10000, 300, 1) / np.sqrt(1.0 + np.arange(300)),
    "heavy": lambda: with_heavy(spiked(10000, 300, 8)),
}


def with_heavy(X, h=50):
    """Put h rows among the others that have half the energy of the spike each, in a direction of their own."""
    at = np.random.default_rng(1).choice(len(X), h, replace=False)
    X[at] = 0
    X[at, 1 + np.arange(h)] = 2 * np.sqrt(len(X))
    return X


def err(X, v):
    """Return 1 - <v, v₁>² for the exact v₁."""
    X = X.astype(np.float64)
    top = np.linalg.eigh(X.T @ X)[1][:, -1]
    v = v.astype(np.float64) / np.linalg.norm(v.astype(np.float64))
    return float(np.linalg.norm(v - (v @ top) * top) ** 2)


class Accuracy:
    """The error 1 - <v, v₁>² of the default, and how many times as large it is claimed to be; below 1 it was missed."""

    params = tuple(STREAMS)
    param_names = ("stream",)

    def setup(self, stream):
        self.X = STREAMS[stream]()

    def track_err(self, stream):
        return err(self.X, top_eigenvector(self.X, rng=0).vector)

    def track_claimed(self, stream):
        result = top_eigenvector(self.X, rng=0)
        return result.error / err(self.X, result.vector)

    track_err.unit = "1 - <v, v₁>²"
    track_claimed.unit = "claimed / err"


class MergedAccuracy:
    """The error of eight merged streams over that of one."""

    unit = "of a single pass"

    def track_merged(self):
        X = spiked(16000, 300)
        streams = [TopEigenvectorStream(rng=0).update(shard) for shard in np.array_split(X, 8)]
        while len(streams) > 1:
            streams = [a.merge(b) for a, b in zip(streams[::2], streams[1::2], strict=True)]
        return err(X, streams[0].result().vector) / err(X, top_eigenvector(X, rng=0).vector)
