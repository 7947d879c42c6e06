"""
New nodes, edited edges
=======================

A graph grows and changes. :meth:`FastRPResult.transform <linalg_ml.embedding.FastRPResult.transform>` embeds new
nodes and leaves the others as they are; :meth:`FastRPResult.update <linalg_ml.embedding.FastRPResult.update>` follows
edits of edges, and gives, to the last bit, what a new embedding would give. How far does one edited edge reach?
"""

# %%
# New nodes
# ---------
# The graph joins 1500 handwritten digits to their ten nearest. The other 297 digits come later, each with edges to
# its ten nearest among the 1500. A classifier that was trained before reads them.

import matplotlib.pyplot as plt
import numpy as np
from scipy import sparse
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from linalg_ml.embedding import fastrp

images, labels = load_digits(return_X_y=True)
n = 1500
neighbours = NearestNeighbors(n_neighbors=10).fit(images[:n])
S = sparse.csr_array(neighbours.kneighbors_graph())
S = S.maximum(S.T)
B = sparse.csr_array(neighbours.kneighbors_graph(images[n:]))

result = fastrp(S, keep_powers=True, rng=0)
new = result.transform(B)
model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000)).fit(result.embedding, labels[:n])
print(f"{len(new)} new digits, {model.score(new, labels[n:]):.1%} of them read right")

# %%
# The rows are those of an embedding of the larger graph, in which no old node points to a new one:

larger = sparse.block_array([[S, None], [B, sparse.csr_array((len(new), len(new)))]], format="csr")
again = fastrp(larger, density=result.density, rng=result.seed)
print("the same bits:", np.array_equal(again.embedding[n:], new), np.array_equal(again.embedding[:n], result.embedding))

# %%
# Edited edges
# ------------
# One edge gets weight 5. Which rows of the embedding change, if step 1 counts alone, or step 2, …? Beside the graph
# of digits, one with a shortcut for every node: an edge to any other.

rng = np.random.default_rng(0)
shortcuts = sparse.coo_array((np.ones(n), (np.arange(n), rng.integers(n, size=n))), shape=(n, n)).tocsr()
graphs = {"neighbours": S, "with shortcuts": S.maximum(shortcuts).maximum(shortcuts.T)}
steps = np.arange(1, 8)
share = {}
for name, graph in graphs.items():
    changed = []
    for step in steps:
        weights = [0] * (step - 1) + [1]
        before = fastrp(graph, n_components=64, weights=weights, density=1 / 3, keep_powers=True, rng=0)
        after = before.update([0], [graph[[0]].indices[0]], 5.0)
        changed.append(np.mean(np.any(after.embedding != before.embedding, axis=1)))
    share[name] = np.array(changed)
    print(f"{name:>15}: " + " ".join(f"{part:6.1%}" for part in changed))

# %%
# The picture
# -----------
# On the left known digits (grey) and new ones in the two principal directions of the known. At the right how far an
# edit reaches: slowly among neighbours, nearly everywhere in five steps where there are shortcuts. Where it reaches
# most of the graph, ``update`` costs as much as a new embedding.

figure, (left, right) = plt.subplots(1, 2, figsize=(9.4, 4), layout="constrained")
plane = PCA(2).fit(result.embedding)
left.scatter(*plane.transform(result.embedding).T, s=4, c="0.8", label="known")
left.scatter(*plane.transform(new).T, s=14, c=labels[n:], cmap="tab10", label="new, coloured by digit")
for digit in range(10):
    box = {"boxstyle": "round,pad=0.15", "facecolor": "w", "edgecolor": "none", "alpha": 0.75}
    x, y = np.median(plane.transform(new[labels[n:] == digit]), axis=0)
    left.text(x, y, str(digit), weight="bold", ha="center", va="center", bbox=box)
left.set(title="new nodes", xticks=[], yticks=[])
for (name, part), marker in zip(share.items(), "os", strict=True):
    right.plot(steps, 100 * part, f"{marker}-", label=f"graph of {name}" if name == "neighbours" else name)
right.set(xlabel="steps of the walk", title="rows that one edited edge changes", xticks=steps)
right.yaxis.set_major_formatter("{x:.0f} %")
right.legend()
plt.show()
