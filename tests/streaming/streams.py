"""Streams of known difficulty, after the specification of the wing, and what NumPy says of them exactly."""

import pickle
from dataclasses import dataclass

import numpy as np


def spiked(n, d, R, seed, dtype=np.float32):
    """Return Gaussian rows of which one direction has R times the energy of the others."""
    rng = np.random.default_rng(seed)
    v = rng.standard_normal(d)
    v /= np.linalg.norm(v)
    X = rng.standard_normal((n, d), dtype=np.float32).astype(dtype, copy=False)
    c = (X @ v.astype(dtype)) * (np.sqrt(R) - 1)
    X += c[:, None].astype(dtype) * v.astype(dtype)
    return X


def heavy(n, d, R, h, seed, dtype=np.float32):
    """Return a spike, and h orthogonal rows anywhere, each of energy σ₁²/R."""
    X = spiked(n - h, d, 4 * R, seed, dtype)
    rng = np.random.default_rng(seed + 1)
    Q, _ = np.linalg.qr(rng.standard_normal((d, h)))
    X = np.vstack([X, (Q.T * np.sqrt(4 * (n - h))).astype(dtype)])
    return X[rng.permutation(n)]


def powernorm(n, d, R, seed, alpha=1.5, dtype=np.float32):
    """Return a spike with rows of Pareto distributed norms."""
    X = spiked(n, d, R, seed, dtype)
    rng = np.random.default_rng(seed + 1)
    X *= np.sqrt(rng.pareto(alpha, n) + 1)[:, None].astype(dtype)
    return X


def powerspec(n, d, p, seed, dtype=np.float32):
    """Return Gaussian rows of population spectrum j^-p."""
    rng = np.random.default_rng(seed)
    spectrum = (1.0 + np.arange(d)) ** (-float(p))
    X = rng.standard_normal((n, d), dtype=np.float32) * np.sqrt(spectrum).astype(np.float32)
    Q, _ = np.linalg.qr(rng.standard_normal((d, d)))
    return (X @ Q.T.astype(np.float32)).astype(dtype, copy=False)


def equal(n, d, g, R, seed, dtype=np.float32):
    """Return rows of g strong directions, of which one has R times the energy of the others, and little noise."""
    rng = np.random.default_rng(seed)
    Q, _ = np.linalg.qr(rng.standard_normal((d, g)))
    X = (rng.standard_normal((n, g)) * np.append(np.sqrt(9 * R), np.full(g - 1, 3.0))) @ Q.T
    return (X + 0.1 * rng.standard_normal((n, d))).astype(dtype)


def hard(n, d, k, seed):
    """Return k rows e₀ among many tiny rows that give every other direction energy 1: no fixed Oja rate finds e₀."""
    rng = np.random.default_rng(seed)
    m = (n - k) // (d - 1)
    N = (d - 1) * m
    X = np.zeros((N + k, d))
    r = np.arange(N)
    X[r, 1 + r % (d - 1)] = 1 / np.sqrt(m)
    X[N:, 0] = 1
    return X[rng.permutation(N + k)]


def split(n, d, R, h, seed, flat=0.2):
    """Return light rows tilted one way from v₁ and h heavy ones the other: either part alone errs by 1/(R+1)."""
    rng = np.random.default_rng(seed)
    Q, _ = np.linalg.qr(rng.standard_normal((d, 2)))
    v, w = Q.T
    s, light = 1.0 / R, n - h
    g = rng.choice([-1.0, 1.0], light)
    X = rng.standard_normal((light, d)) * np.sqrt(flat / R / light)
    X += (g / np.sqrt(light))[:, None] * (v + np.sqrt(s) * w)
    H = np.tile((v - np.sqrt(s) * w) / np.sqrt(h), (h, 1)) * rng.choice([-1.0, 1.0], h)[:, None]
    X = np.vstack([X, H])
    return X[rng.permutation(n)]


def lowrank_adv(n, d, R, r, seed):
    """Return r directions one after another, and the leading one last."""
    rng = np.random.default_rng(seed)
    Q, _ = np.linalg.qr(rng.standard_normal((d, r + 1)))
    m = n // (r + 1)
    X = np.zeros((m * (r + 1), d), np.float32)
    for j in range(r):
        X[j * m : (j + 1) * m] = (rng.standard_normal(m)[:, None] / np.sqrt(m)) * Q[:, j]
    X[r * m :] = (rng.standard_normal(m)[:, None] * np.sqrt(R / m)) * Q[:, r]
    return X + rng.standard_normal(X.shape).astype(np.float32) * (0.1 / np.sqrt(n))


# Random-order streams (n, d, seed) -> rows, easy and difficult, over which the error estimate is held to account.
FAMILIES = {
    "spiked 1.5": lambda n, d, seed: spiked(n, d, 1.5, seed),
    "spiked 3": lambda n, d, seed: spiked(n, d, 3, seed),
    "spiked 6": lambda n, d, seed: spiked(n, d, 6, seed),
    "spiked 20": lambda n, d, seed: spiked(n, d, 20, seed),
    "heavy": lambda n, d, seed: heavy(n, d, 2, 40, seed),
    "power norms 1.5": lambda n, d, seed: powernorm(n, d, 4, seed, 1.5),
    "power norms 2.5": lambda n, d, seed: powernorm(n, d, 4, seed, 2.5),
    "1/j": lambda n, d, seed: powerspec(n, d, 1, seed),
    "1/√j": lambda n, d, seed: powerspec(n, d, 0.5, seed),
    "1/j²": lambda n, d, seed: powerspec(n, d, 2, seed),
    "equal 11": lambda n, d, seed: equal(n, d, 11, 4, seed),
    "equal 21": lambda n, d, seed: equal(n, d, 21, 2, seed),
    "split 8": lambda n, d, seed: split(n, d, 8, 20, seed),
}


@dataclass(frozen=True)
class Exact:
    """Eigenvalues and eigenvectors of AᵀA, largest first."""

    values: np.ndarray
    vectors: np.ndarray  # rows

    @property
    def R(self):
        return self.values[0] / self.values[1]

    def err(self, v):
        """Return 1 - <v, v₁>² of a unit vector, without cancellation: squared sine of the angle."""
        v = np.asarray(v, np.float64)
        assert np.isfinite(v).all()
        assert abs(np.linalg.norm(v) - 1) < 1e-6
        v, top = v / np.linalg.norm(v), self.vectors[0]
        return float(np.linalg.norm(v - (v @ top) * top) ** 2)


def exact(X, *, center=False, weights=None):
    """Return NumPy's answer in float64."""
    X = X.astype(np.float64)
    if center:
        X = X - np.average(X, axis=0, weights=weights)
    w, V = np.linalg.eigh(X.T @ (X if weights is None else X * np.asarray(weights)[:, None]))
    return Exact(w[::-1], V.T[::-1])


def state(stream):
    """Return all that a stream knows, to the bit; room that is not filled yet holds nothing."""
    known = dict(vars(stream))
    room, filled = known.pop("_room", None), stream.n_rows - known["_n_pushed"]
    return pickle.dumps((known, None if room is None else room[:filled].tobytes()))
