"""
Shuffled and sorted rows
========================

The error that a stream states rests on rows in random order. Real rows are often sorted: by time, by place, by class.
:func:`~linalg_ml.streaming.top_eigenvector` tests whether the norms of rows have a trend, and warns. How
much harm does an order do? This example takes the patches of one photograph in six orders.
"""

# %%
# Six orders
# ----------
# Patches of 16 × 16 pixels in grey, each less its mean. In the last order they come in groups: those along the 24th
# principal direction first, then those along the 23rd, and so on, those along the first at the end.

import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_sample_image
from sklearn.decomposition import IncrementalPCA

from linalg_ml.streaming import top_eigenvector

SIDE = 16
image = load_sample_image("china.jpg").mean(axis=2) / 255
windows = np.lib.stride_tricks.sliding_window_view(image, (SIDE, SIDE))[::3, ::3]
rows = windows.reshape(-1, SIDE**2).copy()
rows -= rows.mean(axis=1, keepdims=True)
values, vectors = np.linalg.eigh(rows.T @ rows)
exact = vectors[:, -1]
print(f"{len(rows)} rows of {SIDE**2}, σ₁²/σ₂² = {values[-1] / values[-2]:.2f}")

norms, along = np.linalg.norm(rows, axis=1), np.abs(rows @ exact)
group = np.argmax(np.abs(rows @ vectors[:, -24:]), axis=1)
orders = {
    "shuffled": np.random.default_rng(0).permutation(len(rows)),
    "as in the picture": np.arange(len(rows)),
    "contrast, falling": np.argsort(-norms),
    "contrast, rising": np.argsort(norms),
    "part along $v_1$, rising": np.argsort(along),
    "direction by direction": np.argsort(group, kind="stable"),
}

# %%
# Three methods
# -------------
# Subspace iteration, the default for rows wider than these; Frequent Directions, for which order does not
# matter much; and scikit-learn's IncrementalPCA. (``order="arbitrary"`` runs the first two side by side, and
# takes the second where it certainly holds more energy.)


def error_of(v):
    return np.linalg.norm(v - (v @ exact) * exact) ** 2


def found(order, method):
    """Return the result for rows in this order."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the table says it
        return top_eigenvector(rows[order], method=method, rng=0)


table = []
print(f"\n{'order':26} {'p-value':>8} {'claimed':>9} {'true':>9} {'frequent directions':>20} {'IncrementalPCA':>15}")
for name, order in orders.items():
    default, sketch = found(order, "subspace"), found(order, "frequent-directions")
    usual = IncrementalPCA(n_components=1).fit(rows[order]).components_[0]
    errors = [default.error, *(error_of(v) for v in (default.vector, sketch.vector, usual))]
    table.append((default.order_pvalue, *errors))
    claimed, true, sketched, other = (f"{error:.1e}" for error in errors)
    print(f"{name:26} {default.order_pvalue:8.0e} {claimed:>9} {true:>9} {sketched:>20} {other:>15}")

# %%
# The picture
# -----------
# Only the first order is random, and the test tells it from the others. The error that is stated for these is
# indicative, and ``confidence`` is None (hollow marks).

pvalue, claimed, true, sketched, usual = np.array(table).T
figure, ax = plt.subplots(figsize=(8.4, 4), layout="constrained")
at, trusted = np.arange(len(orders)), pvalue >= 1e-6
for errors, marker, color, label in (
    (claimed, "|", "C0", "claimed by it"),
    (true, "o", "C0", "subspace iteration"),
    (sketched, "x", "C2", "Frequent Directions"),
    (usual, "s", "C7", "IncrementalPCA"),
):
    ax.scatter(errors[trusted], at[trusted], 60, color, marker=marker, label=label)
    hollow = {"facecolor": "w", "edgecolor": color} if marker == "o" else {"color": color}
    ax.scatter(errors[~trusted], at[~trusted], 60, marker=marker, **hollow)
for i, p in enumerate(pvalue):
    text = f"p = {p:.0e}" if p < 0.01 else f"p = {p:.2f}"
    ax.annotate(text, (1.02, i), xycoords=("axes fraction", "data"), va="center")
ax.set_yticks(at, orders)
ax.set(xscale="log", xlabel=r"error, $1 - \langle v, v_1 \rangle^2$")
ax.invert_yaxis()
ax.grid(axis="y", linewidth=0.5)
ax.legend(loc="upper center", bbox_to_anchor=(0.5, 1.15), ncols=4, frameon=False)
plt.show()
