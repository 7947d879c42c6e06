r"""
Least squares: an approximate answer, and the exact one
=======================================================

Two ways to shorten a tall least-squares problem :math:`\min \|Ax - b\|_2`. In
:func:`~linalg_ml.sketching.sketched_lstsq` the sketch takes the place of the data: the error falls as
:math:`1/\sqrt m` with the rows of the sketch, and the result says how large it may be. In
:func:`~linalg_ml.sketching.lstsq` a sketch or a Gram matrix is a preconditioner only, and the answer is
as accurate as LAPACK's.
"""

# %%
# The data
# --------
# Each pixel of a photograph that comes with scikit-learn is predicted from the 63 other pixels of the
# 8 × 8 patch around it, for patches at every third place. The columns resemble each other, and
# the residual is far from Gaussian: it is large at edges.

import time

import matplotlib.pyplot as plt
import numpy as np
import scipy.linalg
from sklearn.datasets import load_sample_image

from linalg_ml.sketching import lstsq, sketched_lstsq

image = load_sample_image("china.jpg").mean(axis=2) / 255
patches = np.lib.stride_tricks.sliding_window_view(image, (8, 8))[::3, ::3].reshape(-1, 64)
patches = patches - patches.mean(axis=0)
middle = 4 * 8 + 4
A, b = np.hstack([patches[:, :middle], patches[:, middle + 1 :]]), patches[:, middle].copy()
n, d = A.shape
print(f"{n} × {d}, condition number {np.linalg.cond(A):.0f}")

# %%
# Full accuracy
# -------------
# The true solution is found by a Newton step from SciPy's, with the gradient in extended precision. The
# backward error is the Karlson–Waldén estimate, with the singular values of :math:`A` itself.

wide_A, wide_b = A.astype(np.longdouble), b.astype(np.longdouble)
singular_values, Vh = scipy.linalg.svd(scipy.linalg.qr(A, mode="r")[0][:d])[1:]


def backward_error(x):
    r = wide_b - wide_A @ x.astype(np.longdouble)
    g, ratio = (r @ wide_A).astype(float), np.linalg.norm(r) / np.linalg.norm(x)
    scaled = (Vh @ g) / np.hypot(singular_values, float(ratio))
    return np.linalg.norm(scaled) / (np.linalg.norm(x) * np.linalg.norm(A))


def timed(call, repeats=3):
    call()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        answer = call()
        seconds.append(time.perf_counter() - start)
    return answer, np.median(seconds)


ours, our_seconds = timed(lambda: lstsq(A, b, rng=0))
scipys, scipy_seconds = timed(lambda: scipy.linalg.lstsq(A, b)[0])
gradient = (wide_b - wide_A @ scipys.astype(np.longdouble)) @ wide_A
x_star = scipys + np.linalg.solve(A.T @ A, gradient.astype(float)).astype(np.longdouble)

print(f"{'':20}{'seconds':>10}{'backward error':>16}{'true forward error':>20}")
for name, x, seconds in (("lstsq", ours.x, our_seconds), ("scipy.linalg.lstsq", scipys, scipy_seconds)):
    forward = np.linalg.norm(x - x_star) / np.linalg.norm(x_star)
    print(f"{name:20}{seconds:10.3f}{backward_error(x):16.1e}{forward:20.1e}")
print(f"{'lstsq claims':20}{'':10}{ours.backward_error:16.1e}{ours.forward_error:20.1e}")
print(f"method {ours.method!r}, {ours.n_passes} passes over A, {ours.n_iter} iterations of refinement")

# %%
# Sketch and solve
# ----------------
# For each size, six sketches. ``linf_bound`` is for the largest error of a coefficient, ``error`` (on
# request) for each; both hold with probability 0.99, ``error`` for all coefficients together.

sizes = np.array([128, 256, 512, 1024, 2048, 4096, 8192])
n_seeds = 6
x = np.empty((sizes.size, n_seeds, d))
error, linf_bound = np.empty_like(x), np.empty((sizes.size, n_seeds))
for i, m in enumerate(sizes):
    for seed in range(n_seeds):
        result = sketched_lstsq(A, b, n_sketch=int(m), error=True, rng=seed)
        x[i, seed], error[i, seed], linf_bound[i, seed] = result.x, result.error, result.linf_bound

off = np.abs(x - x_star).astype(float)
largest = off.max(axis=2)
print(f"largest error above linf_bound: {np.sum(largest > linf_bound)} of {largest.size} sketches")
print(f"some coefficient off by more than its error: {np.sum((off > error).any(axis=2))} of {largest.size}")
for i, m in enumerate(sizes):
    print(f"m = {m:5}: true {np.median(largest[i]):.4f}, error {np.median(error[i].max(axis=1)):.4f}, "
          f"linf_bound {np.median(linf_bound[i]):.4f} (medians)")  # fmt: skip

# %%
# The picture
# -----------
# Left: the largest error of a coefficient, true and claimed. ``linf_bound`` is for the worst case, a
# coefficient along the smallest singular value of :math:`A`; ``error`` knows each coefficient. Right: all
# coefficients in all sketches of two sizes. A mark above the diagonal is a coefficient whose bound
# failed.

figure, (ax, each) = plt.subplots(1, 2, figsize=(8.4, 4), layout="constrained")
where = (sizes[:, None] * 2.0 ** np.linspace(-0.25, 0.25, n_seeds)).ravel()
ax.plot(where, linf_bound.ravel(), "_", color="C3", label="linf_bound")
ax.plot(where, error.max(axis=2).ravel(), "x", color="C1", markersize=4, label="largest error claimed")
ax.plot(where, largest.ravel(), "o", color="C0", markersize=4, label="true")
reference = np.median(largest[-1]) * np.sqrt(sizes[-1] / sizes)
ax.plot(sizes, reference, "k--", linewidth=1, label=r"$\propto 1/\sqrt{m}$")
ax.set(xscale="log", yscale="log", xlabel="rows m of the sketch", ylabel=r"$\|x - x_\star\|_\infty$")
ax.set_title("error against the size of the sketch")
ax.set_xticks(sizes, sizes)
ax.minorticks_off()
ax.legend()

for m, color in ((256, "C2"), (8192, "C0")):
    i = int(np.flatnonzero(sizes == m)[0])
    each.loglog(error[i].ravel(), off[i].ravel(), ".", color=color, markersize=3, label=f"m = {m}")
ends = np.array([0.8 * error[-1].min(), 1.2 * error[1].max()])
each.loglog(ends, ends, "k-", linewidth=1)
each.set(xlabel="error claimed", ylabel="true error", title="every coefficient", xlim=ends, ylim=(1e-4, 1))
each.set_xticks([0.05, 0.1, 0.2, 0.4], ["0.05", "0.1", "0.2", "0.4"])
each.minorticks_off()
each.legend(markerscale=3)
plt.show()
