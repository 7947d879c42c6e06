r"""
Which matrices are nearly Monarch?
==================================

Every matrix has a nearest Monarch matrix, and :func:`~linalg_ml.monarch.project` finds it. Whether it is near
depends on the matrix. :func:`~linalg_ml.monarch.suggest` tries all numbers of blocks and ranks, low rank
among them, and says what error each number of parameters buys. Here it looks at three matrices: a photograph,
weights that remove noise from such photographs, and random numbers.
"""

# %%
# Three matrices of one size
# --------------------------
# The weights map a noisy patch of 16 × 16 pixels to a clean one. They are the ridge regression of patches of a
# photograph that comes with scikit-learn on the same patches with noise: a matrix of 256 × 256, not far from
# a product of something along the rows and something along the columns of a patch. A detail of the photograph is
# a matrix of that size too.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_sample_image

from linalg_ml import monarch

side, noise = 16, 0.1
image = load_sample_image("china.jpg").mean(axis=2) / 255
rng = np.random.default_rng(0)


def patches(picture, step):
    windows = np.lib.stride_tricks.sliding_window_view(picture, (side, side))[::step, ::step]
    return windows.reshape(-1, side * side) - image.mean()


X = patches(image + noise * rng.standard_normal(image.shape), 3)
Sigma = X.T @ X / len(X)
A = np.linalg.solve(Sigma + 1e-3 * np.eye(side**2), X.T @ patches(image, 3) / len(X)).T

matrices = {
    "weights that remove noise": A,
    "a photograph": image[100:356, 150:406],
    "random numbers": rng.standard_normal((256, 256)),
}

# %%
# What each number of parameters buys
# -----------------------------------
# ``suggest`` returns the best shapes of each size, up to half of the matrix. For the weights, 16 blocks are ahead
# by far: a patch has 16 rows of 16 pixels, and the map along rows is nearly the same for all of them. For the
# photograph it takes one block on the left and two on the right, a low rank for each half, little better than one
# for all. Random numbers have no structure; no shape is much better than another, and none is good.

found = {name: monarch.suggest(B) for name, B in matrices.items()}
for name, result in found.items():
    print(f"\n{name}")
    print(result)

# %%
# The lines are truncated singular value decompositions.

figure, axes = plt.subplots(1, 3, figsize=(9, 3.6), sharey=True, layout="constrained")
ranks = np.arange(1, 65)
for ax, (name, result) in zip(axes, found.items(), strict=True):
    energy = np.linalg.svd(matrices[name], compute_uv=False) ** 2
    left_out = 1 - np.cumsum(energy)[:64] / energy.sum()
    ax.plot(512 * ranks, np.sqrt(left_out), color="0.6", linewidth=1)
    result.plot(ax)
    ax.set_title(name)
    ax.label_outer()

# %%
# An eighth of the numbers
# ------------------------
# :attr:`relative_error` is the least that a Monarch matrix of these blocks and this rank can have, and
# :attr:`certificate` bounds how far the energy lost may be above that. The second projection uses what is known of
# the patches, ``Sigma``, to change the answers least, see
# :ref:`sphx_glr_auto_examples_monarch_plot_calibration.py`. Low rank is ``nblocks=1``.

M = monarch.project(A, nblocks=16, certify=True, rng=0)
calibrated = monarch.project(A, nblocks=16, weights=Sigma, tol=1e-2)
low_rank = monarch.project(A, nblocks=1, rank=16)
for name, B in (("Monarch", M), ("Monarch, calibrated", calibrated), ("low rank", low_rank)):
    print(f"{name:20} {B.n_parameters} numbers, relative error {B.relative_error:.3f}")
print(f"the first is optimal to {M.certificate:.0e} of the energy")

# %%
# Its work
# --------
# The same photograph with new noise, cleaned patch by patch at every eighth place, the mean taken where patches
# overlap.

noisy = image + noise * rng.standard_normal(image.shape)


def cleaned(apply):
    step = side // 2
    answers = apply(patches(noisy, step)) + image.mean()
    rows, columns = (1 + (size - side) // step for size in image.shape)
    total, count = np.zeros((2, *image.shape))
    for place, answer in zip(np.ndindex(rows, columns), answers, strict=True):
        at = tuple(slice(step * i, step * i + side) for i in place)
        total[at] += answer.reshape(side, side)
        count[at] += 1
    return total / np.maximum(count, 1)


pictures = {
    "noisy": noisy,
    "all weights": cleaned(lambda X: X @ A.T),
    "Monarch, 1/8": cleaned(M.apply_rows),
    "Monarch, calibrated, 1/8": cleaned(calibrated.apply_rows),
    "low rank, 1/8": cleaned(low_rank.apply_rows),
}
covered = np.s_[:424, :640]
decibels = {}
for name, picture in pictures.items():
    decibels[name] = -10 * np.log10(np.mean((picture[covered] - image[covered]) ** 2))
    print(f"{name:25} {decibels[name]:.1f} dB")

# %%
# The picture
# -----------
# A detail: with an eighth of the numbers, chosen for the data, it is as clean as with all, and low rank blurs it.

figure, axes = plt.subplots(2, 3, figsize=(9, 5.2), layout="constrained")
detail = np.s_[120:250, 120:310]
for ax, name in zip(axes.flat, ("original", *pictures), strict=True):
    ax.imshow((image if name == "original" else pictures[name])[detail], cmap="gray", vmin=0, vmax=1)
    ax.set_title(name if name == "original" else f"{name}: {decibels[name]:.1f} dB", fontsize="medium")
    ax.set_axis_off()
plt.show()
