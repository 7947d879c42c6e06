r"""
How large must a sketch be?
===========================

A sketch :math:`S` with :math:`m` rows is good for a subspace of dimension :math:`d` if it changes the
length of no vector in it by much. For an orthonormal basis :math:`U` of the subspace the *distortion* is

.. math:: \eta = \max_i |\sigma_i(S U) - 1| .

With :math:`\eta = 0.5` every length is kept within a factor 0.5 to 1.5. With :math:`\eta \ge 1` some
vector may be mapped to zero: then the sketch is useless for least squares and as a preconditioner.

This example measures :math:`\eta` for all operators of :mod:`linalg_ml.sketching`, on an easy subspace,
on a hard one, and on one that breaks the textbook version of the SRHT.
"""

# %%
# Three subspaces
# ---------------
# The columns of a Gaussian matrix span an easy subspace: its mass is spread over all rows. The first
# columns of the identity are hard, for each lives in one row alone, and a sketch that merges two such
# rows loses a direction. Columns of this kind are common: one-hot variables, sensors that fire once,
# diagonal blocks. (The third subspace comes below.)

import matplotlib.pyplot as plt
import numpy as np

from linalg_ml.sketching import SRHT, SRTT, CountSketch, Gaussian, SparseSign, fwht

n, d = 4096, 32
ratios = np.array([2, 4, 8, 16])
seeds = range(10)

rng = np.random.default_rng(0)
spread, _ = np.linalg.qr(rng.standard_normal((n, d)))
one_row_each = np.eye(n, d)


def distortion(SU):
    singular_values = np.sqrt(np.abs(np.linalg.eigvalsh(SU.T @ SU)))
    return np.max(np.abs(singular_values - 1))


# %%
# Operators against the size of the sketch
# ----------------------------------------
# Theory for the Gaussian sketch says :math:`\eta \approx \sqrt{d/m}`. The dashed line of the upper panels
# is that.

operators = {kind.__name__: kind for kind in (Gaussian, SRHT, SRTT, SparseSign, CountSketch)}


def mean_distortion(operator, U, m):
    return np.mean([distortion(operator(n, m, rng=seed) @ U) for seed in seeds])


curves = {
    (title, name): [mean_distortion(operator, U, ratio * d) for ratio in ratios]
    for title, U in (("Gaussian columns", spread), ("first columns of I", one_row_each))
    for name, operator in operators.items()
}

print(f"mean distortion over {len(seeds)} seeds, m/d = {', '.join(map(str, ratios))}")
for (title, name), values in curves.items():
    print(f"{title:24} {name:12}", "  ".join(f"{value:.2f}" for value in values))

# %%
# The textbook SRHT on aligned data
# ---------------------------------
# The textbook definition is :math:`\sqrt{n/m}\,P H D`: random signs, the orthonormal Hadamard transform,
# rows sampled uniformly. The columns of :math:`H` that belong to 32 neighbouring rows, aligned to a power
# of two, have only 32 different rows; a uniform sample misses some of these, and the sketch is singular.
# :class:`~linalg_ml.sketching.SRHT` permutes the rows within groups and takes a stratified sample, for
# that reason.


def textbook_srht(U, m, seed):
    rng = np.random.default_rng(seed)
    signs = rng.choice([-1.0, 1.0], n)
    rows = rng.choice(n, m, replace=False)
    return fwht(signs[:, None] * U, axis=0)[rows] / np.sqrt(m)


m = 4 * d
places = {
    "32 neighbours": np.arange(32),
    "32 at stride 64": 64 * np.arange(32),
    "32 at stride 128": 128 * np.arange(32),
    "32 random rows": rng.choice(n, d, replace=False),
}
aligned = {}
for name, rows in places.items():
    U = np.eye(n)[:, rows]
    textbook = [distortion(textbook_srht(U, m, seed)) for seed in seeds]
    ours = [distortion(SRHT(n, m, rng=seed) @ U) for seed in seeds]
    aligned[name] = textbook, ours
    print(f"{name:18} worst distortion: textbook {max(textbook):.2f}, SRHT {max(ours):.2f}")

# %%
# The picture
# -----------
# On spread-out data all operators follow :math:`\sqrt{d/m}`. On columns of the identity CountSketch
# fails: two of the 32 rows meet in one row of the sketch unless :math:`m` is of the order :math:`d^2`.
# The SRTT is worse than :math:`\sqrt{d/m}` there, the others are not. On aligned rows the textbook SRHT
# loses a direction (:math:`\eta = 1`) at a size where the SRHT of this library does not; on random rows
# both do equally well.

figure = plt.figure(figsize=(8.4, 6.4), layout="constrained")
figure.get_layout_engine().set(h_pad=0.12)
axes = figure.subplot_mosaic("ab;cc", height_ratios=(1.5, 1))
styles = dict(zip(operators, ("o-", "s-", "^-", "D-", "v-"), strict=True))
for ax, title in ((axes["a"], "Gaussian columns"), (axes["b"], "first columns of I")):
    for name in operators:
        ax.plot(ratios, curves[title, name], styles[name], label=name, markersize=5)
    ax.plot(ratios, 1 / np.sqrt(ratios), "k--", label=r"$\sqrt{d/m}$")
    ax.set(title=title, xlabel="m / d", xscale="log", ylim=(0, 1.15))
    ax.set_xticks(ratios, ratios)
    ax.minorticks_off()
axes["a"].set_ylabel(r"distortion $\eta$, mean of 10 seeds")
axes["a"].legend()

ax = axes["c"]
for i, (textbook, ours) in enumerate(aligned.values()):
    ax.plot(textbook, np.full(len(textbook), i + 0.13), "x", color="C3")
    ax.plot(ours, np.full(len(ours), i - 0.13), "s", color="C1", markersize=4)
ax.axvline(1, color="0.6", linewidth=1)
ax.set_yticks(range(len(aligned)), aligned)
ax.set(title="columns of I at given rows, m = 4d", xlabel=r"distortion $\eta$, a mark a seed", xlim=(0, 1.15))
ax.legend(["textbook SRHT", "SRHT here"], loc="center left")
plt.show()
