"""
Digits and their neighbours
===========================

1797 handwritten digits, each joined to the ten that are most alike. :func:`~linalg_ml.embedding.fastrp` gives every
node of this graph a vector: nodes from which random walks of a few steps end at the same nodes get similar vectors.
The images themselves are not looked at any more. How well does a classifier read the digits from these vectors, if
few of them have labels?
"""

# %%
# The graph
# ---------
# Who is among the ten nearest of whom, in either direction.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.manifold import SpectralEmbedding
from sklearn.neighbors import kneighbors_graph
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from linalg_ml.embedding import fastrp

images, labels = load_digits(return_X_y=True)
S = kneighbors_graph(images, 10).maximum(kneighbors_graph(images, 10).T)
start, end = S.nonzero()
print(
    f"{S.shape[0]} nodes, {S.nnz // 2} edges, {np.mean(labels[start] == labels[end]):.1%} of them between equal digits"
)

# %%
# The embedding
# -------------
# By default the third and the fourth step of the walk count, alike. The result knows how far inner products of its
# vectors are from what they stand for.

result = fastrp(S, rng=0)
print(f"{result.embedding.shape}, relative error at most {result.relative_error:.2f} ({result.confidence:.0%})")

# %%
# Few labels
# ----------
# Logistic regression on the embedding, on the images, and on scikit-learn's spectral embedding of the same graph.
# Columns are brought to variance 1, because the classifier is regularised.

columns = {
    "FastRP": result.embedding,
    "spectral embedding": SpectralEmbedding(32, affinity="precomputed", random_state=0).fit_transform(S),
    "images": images,
}
model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
counts = [20, 40, 80, 160]
rng = np.random.default_rng(0)
splits = [rng.permutation(len(labels)) for _ in range(4)]
print(f"\n{'labels':>20}" + "".join(f"{count:8}" for count in counts))
right = {}
for name, X in columns.items():
    scores = [
        [model.fit(X[order[:count]], labels[order[:count]]).score(X[order[count:]], labels[order[count:]])
         for count in counts]
        for order in splits
    ]  # fmt: skip
    right[name] = np.array(scores)
    print(f"{name:>20}" + "".join(f"{score:8.1%}" for score in right[name].mean(axis=0)))

# %%
# The picture
# -----------
# On the left the embedding in its two principal directions; colours are digits. In the middle the same for the
# sixteenth step alone: a longer walk forgets more of where it began, and groups contract. At the right how many of
# the other digits are read; bands reach from the worst to the best of four choices of the labelled digits.

far = fastrp(S, weights=[0] * 15 + [1], rng=0)
figure, axes = plt.subplots(1, 3, figsize=(11.5, 3.9), layout="constrained", width_ratios=(1, 1, 1.1))
for ax, E, title in ((axes[0], result.embedding, "steps 3 and 4"), (axes[1], far.embedding, "step 16")):
    plane = PCA(2).fit_transform(E)
    ax.scatter(*plane.T, s=5, c=labels, cmap="tab10")
    for digit in range(10):
        box = {"boxstyle": "round,pad=0.15", "facecolor": "w", "edgecolor": "none", "alpha": 0.75}
        x, y = np.median(plane[labels == digit], axis=0)
        ax.text(x, y, str(digit), weight="bold", ha="center", va="center", bbox=box)
    ax.set(title=title, xticks=[], yticks=[])
for name, marker, color in (("FastRP", "o", "C0"), ("spectral embedding", "x", "C1"), ("images", "s", "C7")):
    axes[2].fill_between(counts, right[name].min(axis=0), right[name].max(axis=0), color=color, alpha=0.15)
    axes[2].semilogx(counts, right[name].mean(axis=0), f"{marker}-", color=color, label=name)
axes[2].set_xticks(counts, counts)
axes[2].minorticks_off()
axes[2].yaxis.set_major_formatter("{x:.0%}")
axes[2].set(xlabel="digits with a label", title="share of the others that is read")
axes[2].legend(loc="lower right")
plt.show()
