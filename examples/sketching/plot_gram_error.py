r"""
The error that is claimed, and the true one
===========================================

A sketch :math:`SA` of a tall matrix stands for :math:`A` in everything that depends on the Gram matrix
:math:`A^\top A`: covariance, principal components, least squares. How far is :math:`(SA)^\top SA` from
it? Forming :math:`A^\top A` to find out would undo the saving. :func:`~linalg_ml.sketching.gram_error`
estimates the difference from a few random probes in one pass over :math:`A`, with bounds that hold at a
stated probability.

Here the estimate is put beside the truth, on patches of a photograph.
"""

# %%
# The data
# --------
# All patches of 8 × 8 pixels at every third place of a photograph that comes with scikit-learn, without
# their common mean. Neighbouring patches resemble each other: the matrix is far from Gaussian, and a few
# directions hold most of its energy.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_sample_image

from linalg_ml.sketching import SRHT, gram_error

image = load_sample_image("china.jpg").mean(axis=2) / 255
patches = np.lib.stride_tricks.sliding_window_view(image, (8, 8))[::3, ::3]
A = patches.reshape(-1, 64)
A = A - A.mean(axis=0)
n, d = A.shape

gram = A.T @ A
size = np.linalg.norm(gram)
print(f"{n} × {d}")

# %%
# Estimates and truth
# -------------------
# For each size of the sketch, ten sketches; for each sketch, one estimate from ten probes. The interval
# has both bounds, each at 95 %. So about one bound in twenty may fail, and not more.

sizes = np.array([128, 256, 512, 1024, 2048, 4096])
n_seeds = 10
true = np.empty((sizes.size, n_seeds))
claimed, lower, upper = (np.empty_like(true) for _ in range(3))

for i, m in enumerate(sizes):
    for seed in range(n_seeds):
        B = SRHT(n, m, rng=seed) @ A
        result = gram_error(A, B, rng=1000 + seed)
        claimed[i, seed] = result.error
        lower[i, seed], upper[i, seed] = result.lower, result.upper
        true[i, seed] = np.linalg.norm(B.T @ B - gram)

print(f"true error above the upper bound: {np.sum(true > upper)} of {true.size}")
print(f"true error below the lower bound: {np.sum(true < lower)} of {true.size}")
print(f"claimed / true: {np.min(claimed / true):.2f} to {np.max(claimed / true):.2f}")

# %%
# What theory predicts
# --------------------
# For a Gaussian sketch the mean of the squared error is exactly :math:`(\|A\|_F^4 + \|A^\top A\|_F^2)/m`.
# The SRHT does about as well; the dashed line shows this value.

predicted = np.sqrt((np.linalg.norm(A) ** 4 + size**2) / sizes)

# %%
# The picture
# -----------
# Left: true and claimed errors fall as :math:`1/\sqrt m`. Right: claimed over true, where 1 is perfect;
# the bars are the bounds, divided by the truth as well. A bar that does not reach 1 is a bound that
# failed.

figure, (ax, ratio) = plt.subplots(1, 2, figsize=(8.4, 4), layout="constrained")
shift = 2.0 ** np.linspace(-0.25, 0.25, n_seeds)
where = sizes[:, None] * shift
ax.plot(where.ravel(), (true / size).ravel(), "o", color="C0", markersize=4, label="true error")
ax.plot(where.ravel(), (claimed / size).ravel(), "x", color="C1", markersize=5, label="claimed by gram_error")
ax.plot(sizes, predicted / size, "k--", linewidth=1, label="root mean square of a Gaussian sketch")
ax.set(xscale="log", yscale="log", xlabel="rows of the sketch", title="relative error of the Gram matrix")
ax.set_ylabel(r"$\|(SA)^\top SA - A^\top A\|_F \,/\, \|A^\top A\|_F$")
ax.set_xticks(sizes, sizes)
ax.minorticks_off()
ax.legend()

below, above = (claimed - lower) / true, (upper - claimed) / true
bars = np.stack([below.ravel(), above.ravel()])
ratio.errorbar(where.ravel(), (claimed / true).ravel(), bars, fmt="x", color="C1", ecolor="0.7", markersize=5)
ratio.axhline(1, color="C0")
ratio.set(xscale="log", yscale="log", xlabel="rows of the sketch", title="claimed / true, with both bounds")
ratio.set_xticks(sizes, sizes)
ratio.set_yticks([0.5, 1, 2], ["0.5", "1", "2"])
ratio.minorticks_off()
plt.show()
