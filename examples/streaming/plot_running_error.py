r"""
The error of a stream while it runs
===================================

Patches of a photograph, drawn at random places, arrive in portions and are not kept. After each portion a
:class:`~linalg_ml.streaming.TopEigenvectorStream` is asked for the direction :math:`v` in which the patches seen so far
vary most, and for its error :math:`1 - \langle v, v_1 \rangle^2`. It knows neither :math:`v_1` nor how many patches
will come. Beside it runs what it does without: the covariance matrix of all patches, from which the
exact direction, and the true error, are computed.
"""

# %%
# The stream
# ----------
# Patches of 20 × 20 pixels in grey, each less its mean: rows of 400 numbers.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_sample_image

from linalg_ml.streaming import TopEigenvectorStream

SIDE = 20
image = (load_sample_image("china.jpg").mean(axis=2) / 255).astype(np.float32)


def patches(n, rng):
    """Draw n patches."""
    y = rng.integers(image.shape[0] - SIDE + 1, size=n)
    x = rng.integers(image.shape[1] - SIDE + 1, size=n)
    steps = np.arange(SIDE)
    rows = image[y[:, None, None] + steps[:, None], x[:, None, None] + steps].reshape(n, -1)
    return rows - rows.mean(axis=1, keepdims=True)


# %%
# One run
# -------
# The number of patches grows by a factor of 1.5 with every portion; how rows are cut into portions does not
# change the answer.

portions = np.diff([0, *(2000 * 1.5 ** np.arange(8)).astype(int)])


def run(seed):
    """Return a row for each portion: patches seen, claimed and true error, share of the variance and its bounds."""
    rng = np.random.default_rng(seed)
    stream = TopEigenvectorStream(center=True, rng=seed)
    gram, total, n_seen = 0.0, 0.0, 0
    table, directions = [], []
    for n in portions:
        rows = patches(n, rng)
        result = stream.update(rows).result()

        rows = rows.astype(np.float64)
        gram, total, n_seen = gram + rows.T @ rows, total + rows.sum(axis=0), n_seen + n
        values, vectors = np.linalg.eigh(gram - np.outer(total, total) / n_seen)
        exact = vectors[:, -1]
        v = result.vector / np.linalg.norm(result.vector.astype(np.float64))
        error = np.linalg.norm(v - (v @ exact) * exact) ** 2
        share = result.value / result.frobenius_sq
        doubt = share * result.value_relative_error
        table.append((n_seen, result.error, error, share, doubt, values[-1] / values.sum(), values[-1] / values[-2]))
        directions.append(result.vector)
    return np.array(table), directions, result


runs = [run(seed) for seed in range(4)]
table, directions, result = runs[0]
print(f"{'patches':>8} {'claimed':>9} {'true':>9}   share of the variance")
for n_seen, claimed, true, share, doubt, exact_share, _ in table:
    print(f"{n_seen:8.0f} {claimed:9.1e} {true:9.1e}   {share:.4f} ± {doubt:.4f}, exactly {exact_share:.4f}")
print(f"\nthe two largest eigenvalues differ by a factor of {table[-1, -1]:.2f}, says numpy;")
print(f"{result.gap_estimate:.2f}, says the stream, in {result.memory_used / 1e3:.0f} kB")
claims = np.concatenate([table[:, 1] >= table[:, 2] for table, *_ in runs])
print(f"the claim held {claims.sum()} times of {claims.size}, in {len(runs)} runs")

# %%
# The picture
# -----------
# On the left the estimate of the first eigenvalue, as a share of the variance, with its band. In the middle the
# band of errors that the stream allows, and the true error; thin lines are other runs, with bands of their own.
# At the right the direction after the first, the third and the last portion.

figure = plt.figure(figsize=(9.6, 3.9), layout="constrained")
axes = figure.subplot_mosaic("sssseeeea;sssseeeeb;sssseeeec")
n_seen, claimed, true, share, doubt, exact_share, _ = table.T
axes["s"].fill_between(n_seen, share - doubt, share + doubt, alpha=0.2, label="its band")
axes["s"].plot(n_seen, share, "o-", markersize=4, label="estimate")
axes["s"].plot(n_seen, exact_share, "k--", linewidth=1, label="exact")
axes["s"].set(title="share of the variance", xscale="log", xlabel="patches seen")
axes["s"].legend()
axes["e"].fill_between(n_seen, claimed, 1e-9, alpha=0.2, label="claimed: below")
for i, (other, *_) in enumerate(runs):
    axes["e"].plot(n_seen, other[:, 2], "C0o-" if i == 0 else "C7-", linewidth=1, markersize=4)
axes["e"].plot([], [], "C0o-", markersize=4, label="true")
axes["e"].plot([], [], "C7-", linewidth=1, label="true, other runs")
axes["e"].set(title=r"$1 - \langle v, v_1 \rangle^2$", xscale="log", yscale="log", xlabel="patches seen")
axes["e"].set(ylim=(true.min() / 5, 2 * claimed.max()))
axes["e"].legend(loc="lower left")
for name in "se":
    axes[name].set_xticks([2000, 5000, 10_000, 20_000], ["2000", "5000", "10 000", "20 000"])
    axes[name].minorticks_off()
for name, i in (("a", 0), ("b", 2), ("c", -1)):
    v = directions[i]
    v = v * np.sign(v @ directions[-1])
    most = np.abs(v).max()
    axes[name].imshow(v.reshape(SIDE, SIDE), cmap="RdBu", vmin=-most, vmax=most)
    axes[name].set_title(f"{n_seen[i]:.0f} seen", fontsize="small")
    axes[name].set_axis_off()
plt.show()
