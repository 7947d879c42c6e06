r"""
The error, claimed and true
===========================

An embedding :math:`E` of :func:`~linalg_ml.embedding.fastrp` is :math:`MR`: a matrix :math:`M` of what random walks
reach, which is never formed, times a random projection :math:`R`. Its inner products :math:`EE^\top` stand for
:math:`MM^\top`, the similarities of the nodes. ``result.relative_error`` bounds their distance, by eight random
vectors. This example forms :math:`M` for a graph of 637 nodes, and looks at what the number of components and the
density of the projection do.
"""

# %%
# A graph of words
# ----------------
# The texts that describe scikit-learn's data sets; an edge joins words that follow each other. Few words are
# frequent, most are rare.

import re
import warnings

import matplotlib.pyplot as plt
import numpy as np
from scipy import sparse
from sklearn import datasets

from linalg_ml.embedding import fastrp

names = "breast_cancer", "diabetes", "digits", "iris", "linnerud", "wine"
text = " ".join(getattr(datasets, f"load_{name}")().DESCR for name in names)
words, which = np.unique(re.findall("[a-z]+", text.lower()), return_inverse=True)
n = len(words)
S = sparse.coo_array((np.ones(len(which) - 1), (which[:-1], which[1:])), shape=(n, n)).tocsr()
S = S + S.T
degrees = S.sum(axis=1)
print(f"{n} words; degrees: median {np.median(degrees):.0f}, largest {degrees.max():.0f}")

# %%
# The true error
# --------------
# :math:`M = \sum_i \operatorname{diag}(c_i) A^i` with the transition matrix :math:`A`; the factors :math:`c_i` follow
# from the lengths of rows that the result keeps.

A = (sparse.diags_array(1 / degrees) @ S).toarray()
powers = [A]
for _ in range(3):
    powers.append(A @ powers[-1])


def true_error(result, weights):
    """Return ‖EEᵀ - MMᵀ‖_F / ‖E‖_F²."""
    E, M = np.asarray(result, np.float64), np.zeros((n, n))
    used = [i for i, weight in enumerate(weights) if weight]
    for i, norms in zip(used, result.row_norms, strict=True):
        M += np.divide(weights[i], norms, out=np.zeros(n), where=norms > 0)[:, None] * powers[i]
    return np.linalg.norm(E @ E.T - M @ M.T) / np.linalg.norm(E) ** 2


def errors(weights, d, density):
    """Return the relative error, claimed and true, and the number of rows that are zero: medians of five seeds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of rows that are zero; the table has them
        results = [fastrp(S, n_components=d, weights=weights, density=density, rng=seed) for seed in range(5)]
    return np.median([(r.relative_error, true_error(r, weights), r.n_zero_rows) for r in results], axis=0)


# %%
# More components, denser projections
# -----------------------------------
# With the third and fourth step, the default, and with the first alone. The default density is :math:`1/\sqrt n` for
# the one, 1/3 for the other.

usual, first = (0, 0, 1, 1), (1,)
sizes, densities = [16, 32, 64, 128, 256], [1 / np.sqrt(n), 0.1, 1 / 3, 1]
by_size = {density: np.array([errors(usual, d, density) for d in sizes]) for density in (densities[0], 1 / 3)}
by_density = {weights: np.array([errors(weights, 16, density) for density in densities]) for weights in (first, usual)}
print(f"{'weights':>12} {'components':>11} {'density':>8} {'claimed':>8} {'true':>6} {'zero rows':>10}")
for density, table in by_size.items():
    for d, (claimed, true, zero) in zip(sizes, table, strict=True):
        print(f"{usual!s:>12} {d:11} {density:8.2f} {claimed:8.2f} {true:6.3f} {zero:10.0f}")
for weights, table in by_density.items():
    for density, (claimed, true, zero) in zip(densities, table, strict=True):
        print(f"{weights!s:>12} {16:11} {density:8.2f} {claimed:8.2f} {true:6.3f} {zero:10.0f}")

# %%
# The picture
# -----------
# Dashed is what was claimed, at 95 %. On the left the error against the number of components, for steps 3 and 4: at
# density 1/3 it falls as :math:`1/\sqrt{d}`. At the right the price of a sparse projection where there are few
# components. Walks of several steps all meet at a few frequent words, and the rows of the projection that belong to
# these hold hardly an entry that is not zero. After one step rare words have reached few others, and the rows of many
# of them are zero.

figure, (left, right) = plt.subplots(1, 2, figsize=(9.4, 3.9), layout="constrained")
for (density, table), color, marker in zip(by_size.items(), ("C0", "C2"), "os", strict=True):
    named = r"$1/\sqrt{n}$ (default)" if density < 0.1 else "1/3"
    left.loglog(sizes, table[:, 0], "--", color=color)
    left.loglog(sizes, table[:, 1], f"{marker}-", color=color, label=f"density {named}")
left.loglog(sizes, 1 / np.sqrt(sizes), ":", color="k", linewidth=1, label=r"$1/\sqrt{d}$")
left.set_xticks(sizes, sizes)
left.set_yticks([0.05, 0.1, 0.2, 0.5, 1], ["0.05", "0.1", "0.2", "0.5", "1"])
left.set(xlabel="components $d$", title="relative error of inner products, steps 3 and 4")
for (weights, table), color in zip(by_density.items(), ("C1", "C0"), strict=True):
    right.semilogx(densities, table[:, 0], "--", color=color)
    right.semilogx(densities, table[:, 1], "o-", color=color, label="step 1" if weights == first else "steps 3 and 4")
left.plot([], [], "--", color="0.5", label="claimed: at most")
right.set_xticks(densities, [r"$1/\sqrt{n}$", "0.1", "1/3", "1"])
right.set(xlabel="density of the projection", title="the same, with 16 components", ylim=(0, None))
for ax in (left, right):
    ax.minorticks_off()
    ax.legend()
plt.show()
