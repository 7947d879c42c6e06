r"""
Compressing a layer for the data it sees
========================================

:func:`~linalg_ml.monarch.project` takes the nearest Monarch matrix, all directions counting the same. The
inputs of a layer do not fill all directions. With ``weights=`` the second moments :math:`\Sigma = X^\top X/N`
of some inputs, it minimises

.. math:: \operatorname{tr}\,(A - M)\,\Sigma\,(A - M)^\top = \tfrac1N \|X A^\top - X M^\top\|_F^2

instead: what the layer answers changes least, whatever becomes of the weights. This example compresses the
middle layer of a small network that reads digits, beside matrices of low rank with as many numbers, which
are the better structure for this layer.
"""

# %%
# The network
# -----------
# Two hidden layers of 256 units. The layer between them has 65 536 weights, nearly four fifths of all.

import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

from linalg_ml import monarch

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X / 16, y, random_state=0)
network = MLPClassifier((256, 256), alpha=1e-3, max_iter=40, random_state=0)
with warnings.catch_warnings():
    warnings.simplefilter("ignore", ConvergenceWarning)  # 40 epochs are enough here
    network.fit(X_train, y_train)

A = network.coefs_[1].T.copy()  # rows are outputs
full_accuracy = network.score(X_test, y_test)
print(f"{A.shape[0]} × {A.shape[1]} weights, accuracy on unseen digits {full_accuracy:.3f}")

# %%
# Calibration
# -----------
# The inputs of the layer, for the training digits, and their second moments. Some units are silent, so
# :math:`\Sigma` is singular; a little of the identity makes it positive definite.

inputs = np.maximum(X_train @ network.coefs_[0] + network.intercepts_[0], 0)
Sigma = inputs.T @ inputs / len(inputs)
Sigma += 1e-6 * np.trace(Sigma) / len(Sigma) * np.eye(len(Sigma))
size = np.sqrt(np.trace(A @ Sigma @ A.T))


# %%
# Four ways to compress
# ---------------------
# Eight blocks and ranks 1, 2, 4 keep 1/16, 1/8 and 1/4 of the numbers. Low rank is ``nblocks=1``: one slice,
# and the same function does it, with calibration too, where it has a closed form.


def outcome(M):
    """Return how much the answers of the layer change, and the accuracy with M in its place."""
    D = A - M.to_dense()
    network.coefs_[1] = M.to_dense().T
    accuracy = network.score(X_test, y_test)
    network.coefs_[1] = A.T
    return np.sqrt(np.trace(D @ Sigma @ D.T)) / size, accuracy


ranks = (1, 2, 4)
shares = [rank / 16 for rank in ranks]
ways = {
    "Monarch": {"nblocks": 8},
    "Monarch, calibrated": {"nblocks": 8, "weights": Sigma, "tol": 1e-2, "max_iter": 100},
    "low rank": {"nblocks": 1},
    "low rank, calibrated": {"nblocks": 1, "weights": Sigma},
}
results = {}
print(f"\n{'share of the numbers':24}" + "".join(f"{f'1/{16 // rank}':>16}" for rank in ranks))
for name, options in ways.items():
    scale = 1 if options["nblocks"] == 8 else 8  # as many numbers
    found = [monarch.project(A, rank=scale * rank, rng=0, **options) for rank in ranks]
    results[name] = np.array([outcome(M) for M in found])
    print(f"{name:24}" + "".join(f"{change:10.1%}{accuracy:6.3f}" for change, accuracy in results[name]))
print("in each column: change of the layer's answers, accuracy on unseen digits")

# %%
# The weights themselves move far away, which does not matter:

M = monarch.project(A, rank=2, rng=0, **ways["Monarch, calibrated"])
print(f"‖A − M‖ / ‖A‖ = {M.relative_error:.2f}, but the answers change by {M.weighted_error / size:.1%}")
print(f"{M.n_iter} sweeps, converged: {M.converged}")

# %%
# The picture
# -----------
# Without calibration eight Monarch blocks lose much of what the network has learnt: gradient descent from
# random weights leaves no structure that blocks could use, and low rank is the nearer match. With calibration
# the difference is small, and an eighth of the numbers costs less than one per cent of accuracy.

figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 4), layout="constrained")
styles = {"Monarch": ("C0", "o--"), "Monarch, calibrated": ("C0", "o-")}
styles |= {"low rank": ("C1", "s--"), "low rank, calibrated": ("C1", "s-")}
for name, (color, style) in styles.items():
    change, accuracy = results[name].T
    left.plot(shares, change, style, color=color, label=name)
    right.plot(shares, accuracy, style, color=color, label=name)
right.axhline(full_accuracy, color="k", linewidth=1, label="all weights")
left.set(yscale="log", title="change of the layer's answers", ylabel=r"$\|XA^\top - XM^\top\| \,/\, \|XA^\top\|$")
right.set(title="accuracy on unseen digits", ylim=(None, 1))
for ax in (left, right):
    ax.set(xscale="log", xlabel="share of the numbers")
    ax.set_xticks(shares, [f"1/{16 // rank}" for rank in ranks])
    ax.minorticks_off()
right.legend()
plt.show()
