r"""
The Fourier transform, and the order of its inputs
==================================================

The discrete Fourier transform is a Monarch matrix of rank one, behind a permutation of its inputs: that is
the first step of Cooley and Tukey. Without it, no Monarch matrix comes near. The cosine transform has rank
two, behind another permutation. This example looks at the slices, and at what permutations are worth.
"""

# %%
# Two transforms, four orders of the inputs
# -----------------------------------------
# The usual order; every 16th input together, as in the FFT; Makhoul's order, by which a cosine transform becomes
# a Fourier transform; and a random one. How many singular values the slices have shows in the error that
# :func:`~linalg_ml.monarch.project` leaves with ``rank`` of them.

import matplotlib.pyplot as plt
import numpy as np
import scipy.fft

from linalg_ml import monarch

n, blocks = 256, 16
rng = np.random.default_rng(0)
stride = np.arange(n).reshape(blocks, blocks).T.ravel()  # 0, 16, 32, …, 1, 17, …
makhoul = np.r_[0:n:2, n - 1 : 0 : -2]  # 0, 2, 4, …, 5, 3, 1
orders = {
    "usual order": np.arange(n),
    "stride 16": stride,
    "Makhoul, then stride 16": makhoul[stride],
    "random order": rng.permutation(n),
}
transforms = {
    "Fourier": np.fft.fft(np.eye(n), norm="ortho"),
    "cosine (II)": scipy.fft.dct(np.eye(n), axis=0, norm="ortho"),
}
ranks = (1, 2, 3, 4, 8)

errors = {}
for transform, F in transforms.items():
    print(f"\n{transform}: relative error for ranks {ranks}")
    for order, perm in orders.items():
        found = [monarch.project(F[:, perm], nblocks=blocks, rank=rank) for rank in ranks]
        errors[transform, order] = [M.relative_error for M in found]
        print(f"{order:24}", "  ".join(f"{M.relative_error:7.1e}" for M in found))

# %%
# Exact, for any length
# ---------------------
# :func:`~linalg_ml.monarch.dft` and :func:`~linalg_ml.monarch.dct` have their permutations as a stage of the
# chain, so that they take inputs in the usual order. Lengths need not be powers of two, and more factors can be
# had.

x = rng.standard_normal(1000)
for name, M, exact in (
    ("dft", monarch.dft(1000), np.fft.fft(x)),
    ("dft, order 3", monarch.dft(1000, order=3), np.fft.fft(x)),
    ("dct", monarch.dct(1000), scipy.fft.dct(x)),
):
    error = np.linalg.norm(M @ x - exact) / np.linalg.norm(exact)
    print(f"{name:14} {M.n_parameters:7} numbers of {x.size**2}, error {error:.0e}")

# %%
# The picture
# -----------
# Left: the error against the rank; what is exact lies at the bottom. Right: a slice of the Fourier transform in the
# usual order and in the one of stride 16. The first turns too fast for any low rank; in the second all rows are the
# same up to a factor.

figure = plt.figure(figsize=(9, 5.4), layout="constrained")
axes = figure.subplot_mosaic("abu;abs", width_ratios=(1.2, 1.2, 1))
for ax, transform in ((axes["a"], "Fourier"), (axes["b"], "cosine (II)")):
    for order, style in zip(orders, ("o-", "s-", "D-", "x--"), strict=True):
        ax.plot(ranks, np.maximum(errors[transform, order], 1e-16), style, label=order, markersize=5)
    ax.set(xscale="log", yscale="log", xlabel="rank of the slices", title=transform, ylim=(3e-17, 3))
    ax.set_xticks(ranks, ranks)
    ax.minorticks_off()
axes["a"].set_ylabel("relative error")
axes["a"].legend(loc="center right", fontsize="small")

j, k = 5, 7
for name, order in (("u", "usual order"), ("s", "stride 16")):
    part = transforms["Fourier"][:, orders[order]][j::blocks, k * blocks : (k + 1) * blocks]
    axes[name].imshow(part.real, cmap="RdBu")
    axes[name].set_title(f"a slice, {order}", fontsize="medium")
    axes[name].set_axis_off()
plt.show()
