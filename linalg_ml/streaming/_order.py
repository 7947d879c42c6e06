"""Does a stream look shuffled? A test on the norms of its rows, in bounded memory."""

from dataclasses import dataclass, field

import numpy as np
from scipy.special import ndtr  # scipy.stats takes a second to import

from ._kernels import bin_sums

_ROWS = 128  # of a bin, at first
_BINS = 256
_FEWEST = 16


@dataclass
class OrderTest:
    """Sums over bins of consecutive rows; when the bins are full, neighbours are added up."""

    width: int = _ROWS
    n_bins: int = 0
    in_bin: int = 0
    sums: np.ndarray = field(default_factory=lambda: np.zeros((3, _BINS)))  # of logarithms, ones and energies
    merged: float = 1.0  # least p-value of streams that were merged into this one
    n_streams: int = 1

    def copy(self) -> "OrderTest":
        return OrderTest(self.width, self.n_bins, self.in_bin, self.sums.copy(), self.merged, self.n_streams)

    def add(self, energies: np.ndarray) -> None:
        """Take in squared norms of rows."""
        at = 0
        while at < energies.size:
            room = (_BINS - self.n_bins) * self.width - self.in_bin
            part = energies[at : at + room]
            end = self.in_bin + part.size
            bins = slice(self.n_bins, self.n_bins - (-end // self.width))
            self.sums[:, bins] = bin_sums(part, self.sums[:, bins], self.in_bin, self.width)
            self.n_bins, self.in_bin = self.n_bins + end // self.width, end % self.width
            at += part.size
            if self.n_bins == _BINS:
                self._halve()

    def scale(self, factor: float) -> None:
        """Multiply all rows seen by a power of two."""
        logs, positives, energies = self.sums
        self.sums = np.stack([logs + positives * (2 * np.log(factor)), positives, energies * factor**2])

    def _halve(self) -> None:
        self.sums[:, : _BINS // 2] = self.sums[:, 0::2] + self.sums[:, 1::2]
        self.sums[:, _BINS // 2 :] = 0
        self.n_bins, self.width = _BINS // 2, 2 * self.width

    def merge(self, other: "OrderTest") -> None:
        """Count another stream, whose rows came in an order of their own."""
        self.merged = min(self.merged, other.merged, other._own())
        self.n_streams += other.n_streams

    @property
    def pvalue(self) -> float:
        """Probability that a shuffled stream shows as much trend, Bonferroni over tests and merged streams."""
        return min(1.0, self.n_streams * min(self.merged, self._own()))

    def _own(self) -> float:
        m = self.n_bins
        if m < _FEWEST:
            return 1.0
        logs, positives, energies = self.sums[:, :m]
        there = positives > 0
        if not there.any():
            return 1.0
        logs = np.divide(logs, positives, out=np.full(m, np.nan), where=there)
        logs = np.where(there, logs, np.nanmin(logs))
        series = (logs, _ranks(logs), _ranks(energies))
        return min(1.0, 12 * float(ndtr(-max(max(_trend(x), _persistence(x)) for x in series))))


def _ranks(x: np.ndarray) -> np.ndarray:
    """Return ranks, of equal numbers their mean."""
    _, place, counts = np.unique(x, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[place]


def _centred(x: np.ndarray) -> np.ndarray:
    away = x - x.mean()
    scale = np.abs(away).max()
    return away / scale if scale > 1e-12 * np.abs(x).max() else np.zeros_like(x)


def _trend(x: np.ndarray) -> float:
    """Return z of the correlation with a straight line."""
    x, line = _centred(x), np.arange(x.size) - (x.size - 1) / 2
    norms = np.sqrt(np.dot(x, x) * np.dot(line, line))
    return abs(np.dot(x, line)) / norms * np.sqrt(x.size - 1) if norms > 0 else 0.0


def _persistence(x: np.ndarray) -> float:
    """Return z of the correlation of neighbours."""
    x = _centred(x)
    energy = np.dot(x, x)
    return (np.dot(x[1:], x[:-1]) / energy + 1 / x.size) * np.sqrt(x.size) if energy > 0 else 0.0
