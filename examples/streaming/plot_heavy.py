"""
Rows too heavy to forget
========================

A camera that now and then reports one pixel as far too bright makes rows unlike all others. Each of them is as strong
as a good part of the leading direction, and no two point the same way. A sketch of a few directions cannot hold
them all, and one it has to drop spoils the rest. Theory says that no algorithm can do without storing such rows;
:func:`~linalg_ml.streaming.top_eigenvector` keeps the ``max_heavy`` rows of largest norm aside. This example lets
the room for them grow.
"""

# %%
# The data
# --------
# Patches of a photograph, 16 × 16 pixels in grey, each less its mean; 50 of 40 000 have one pixel that glows.
# Each of these has half the energy of the leading direction.

import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_sample_image
from sklearn.decomposition import IncrementalPCA

from linalg_ml.streaming import top_eigenvector

SIDE, N_HEAVY = 16, 50
rng = np.random.default_rng(0)
image = load_sample_image("china.jpg").mean(axis=2) / 255
windows = np.lib.stride_tricks.sliding_window_view(image, (SIDE, SIDE))
rows = rng.permutation(windows[::2, ::2].reshape(-1, SIDE**2))[:40_000]
rows -= rows.mean(axis=1, keepdims=True)
clean = np.linalg.eigvalsh(rows.T @ rows)[-1]
glowing = np.sort(rng.choice(len(rows), N_HEAVY, replace=False))
pixels = rng.choice(SIDE**2, N_HEAVY, replace=False)
rows[glowing, pixels] += np.sqrt(clean / 2)

values, vectors = np.linalg.eigh(rows.T @ rows)
exact = vectors[:, -1]
print(f"{len(rows)} rows of {SIDE**2}, σ₁²/σ₂² = {values[-1] / values[-2]:.2f}")
print(f"a glowing pixel is {rows.max() / rows.std():.0f} times as bright as others usually are")

# %%
# More and more room
# ------------------


def error_of(v):
    return np.linalg.norm(v - (v @ exact) * exact) ** 2


rooms = [0, 8, 16, 24, 32, 40, 48, 50, 56, 64, 96]
found = []
print(f"\n{'room':>5} {'claimed':>9} {'true':>9}  kept  more may be lost")
for room in rooms:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the table says it
        result = top_eigenvector(rows, max_heavy=room, method="subspace", rng=0)
    found.append((result.error, error_of(result.vector), result.heap_saturated))
    lost = "yes" if result.heap_saturated else "no"
    print(f"{room:5} {result.error:9.1e} {error_of(result.vector):9.1e} {result.n_heavy:5}  {lost}")

usual = IncrementalPCA(n_components=1).fit(rows).components_[0]
print(f"IncrementalPCA(n_components=1): {error_of(usual):.1e}")

# %%
# With the default, room for 64, all are found, and the result says which they were:

result = top_eigenvector(rows, rng=0)
print(f"kept aside: {result.n_heavy} rows; the glowing ones: {np.array_equal(result.heavy_indices, glowing)}")

# %%
# The picture
# -----------
# The error falls as soon as there is room for all. Where rows had to be dropped, the stream says
# so (hollow marks, and a warning). Room for none draws no warning: nothing was kept that could be compared.

claimed, true, saturated = np.array(found).T
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.9), layout="constrained", width_ratios=(1.6, 1))
for errors, color, label in ((claimed, "C1", "claimed"), (true, "C0", "true")):
    left.semilogy(rooms, errors, color=color, linewidth=1)
    full = saturated == 1
    left.semilogy(np.array(rooms)[~full], errors[~full], "o", color=color, label=label)
    left.semilogy(np.array(rooms)[full], errors[full], "o", color=color, markerfacecolor="w")
left.axvline(N_HEAVY, color="k", linewidth=1, linestyle=":")
left.annotate("as many as there are", (N_HEAVY, claimed.max()), (4, 0), textcoords="offset points", fontsize="small")
left.axhline(error_of(usual), color="C2", linewidth=1, linestyle="--", label="IncrementalPCA, true")
left.set(xlabel="room for heavy rows", title=r"$1 - \langle v, v_1 \rangle^2$")
left.legend()
norms = np.linalg.norm(rows, axis=1)
light = np.setdiff1d(np.arange(len(rows)), glowing)
bins = np.geomspace(norms[norms > 0.05].min(), 1.1 * norms.max(), 50)
right.hist(norms[light], bins, label="usual rows")
right.hist(norms[glowing], bins, label="with a glowing pixel")
right.set(xscale="log", yscale="log", xlabel="norm of a row", title="number of rows")
right.set(ylim=(None, 1e5))
right.legend()
plt.show()
