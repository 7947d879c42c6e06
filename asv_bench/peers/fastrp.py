"""Graph embeddings against the published arithmetic in SciPy, other packages, and the speed of gathering rows."""

import importlib.util
from statistics import median

import numpy as np
from _harness import Run, measure
from scipy import sparse

from linalg_ml.embedding import fastrp, projection_matrix

WEIGHTS = (0.0, 0.0, 1.0, 1.0)
RATIOS = 0.01, 0.05, 0.1, 0.5, 0.9  # of labelled nodes, in the paper's protocol


def main():
    run = Run(__doc__, add_options)
    if run.options.blogcatalog is None:
        print("\nBlogCatalog: skipped, no path was given (`--blogcatalog`).")
    else:
        blogcatalog(run, run.options.blogcatalog)
    n, degree, d = (20_000, 10, 64) if run.quick else (run.options.nodes, run.options.degree, 128)
    S = popular(n, degree)
    print(f"\nBarabási–Albert graph: {n} nodes, {S.nnz} stored entries, d = {d}.")
    timings = run.compare(f"embedding, d = {d}, powers 3 and 4", embeddings(S, d), (S,))
    run.goal(f"times as fast as SciPy, {run.clock} time", run.ratio(timings, SCIPY), **target(run))
    gathering(run, S, d)
    error_share(run, S, d)


def add_options(parser):
    parser.add_argument("--nodes", type=int, default=200_000, help="nodes of the random graph (default: 200000)")
    parser.add_argument("--degree", type=int, default=10, help="edges that a new node brings (default: 10)")
    parser.add_argument("--blogcatalog", metavar="PATH", help="npz file of the BlogCatalog graph and its groups")


def target(run):
    return {"least": 4.0} if run.options.threads == 1 else {"least": 7.0}


# --- graphs -------------------------------------------------------------------------------------------


def popular(n, degree):
    """Return a Barabási–Albert graph in random order of nodes, int32 indices."""
    rng = np.random.default_rng(0)
    src = np.repeat(np.arange(degree, n), degree)
    ends = np.empty(2 * src.size, np.int64)
    _attach(src, rng.random(src.size), degree, ends)
    order = rng.permutation(n)
    a, b = order[ends[::2]], order[ends[1::2]]
    S = sparse.coo_array((np.ones(2 * a.size, np.float32), (np.r_[a, b], np.r_[b, a])), shape=(n, n)).tocsr()
    S.sum_duplicates()
    S.data[:] = 1
    return sparse.csr_array((S.data, S.indices.astype(np.int32), S.indptr.astype(np.int32)), shape=(n, n))


def _attach(src, uniforms, degree, ends):
    """Fill `ends` with both ends of edges; the ends so far are drawn with equal probability."""
    import numba

    @numba.njit
    def attach(src, uniforms, degree, ends):
        for e in range(src.size):
            ends[2 * e] = src[e]
            ends[2 * e + 1] = e if e < degree else ends[int(uniforms[e] * 2 * (e - e % degree))]

    attach(src, uniforms, degree, ends)


# --- embeddings ---------------------------------------------------------------------------------------

SCIPY = "SciPy, published arithmetic"


def embeddings(S, d):
    functions = {
        "linalg_ml fastrp": lambda S: fastrp(S, n_components=d, weights=WEIGHTS, rng=0),
        SCIPY: lambda S: published(S, projection_matrix(np.arange(S.shape[0]), d, density=S.shape[0] ** -0.5, rng=0)),
    }
    for package, name, make in (
        ("sknetwork", "scikit-network RandomProjection", scikit_network),
        ("pycleora", "pycleora", cleora),
        ("nodevectors", "nodevectors ProNE", prone),
    ):
        if importlib.util.find_spec(package) is None:
            print(f"\n{name}: skipped, {package} is not installed.")
        else:
            functions[name] = make(S, d)
    return functions


def published(S, R, weights=WEIGHTS, normalization=0.0):
    """Return the embedding as the authors' code computes it, products by SciPy in float32."""
    r = S.sum(axis=1)
    inverse = np.divide(1, r, out=np.zeros_like(r), where=r > 0).astype(np.float32)
    A = sparse.csr_array((S.data * np.repeat(inverse, np.diff(S.indptr)), S.indices, S.indptr), shape=S.shape)
    N, E = R, None
    if normalization:
        N = (np.where(r > 0, r, 1) / r.sum()).astype(np.float32)[:, None] ** normalization * R
    for weight in weights:
        N = A @ N
        if weight:
            norms = np.linalg.norm(N, axis=1, keepdims=True)
            part = np.float32(weight) * N / np.where(norms > 0, norms, 1)
            E = part if E is None else E + part
    return E


def scikit_network(S, d):
    from sknetwork.embedding import RandomProjection

    return lambda S: RandomProjection(d, n_iter=4, random_state=0).fit_transform(sparse.csr_matrix(S))


def cleora(S, d):
    import pycleora

    C = sparse.triu(S, format="coo")
    lines = [f"{a} {b}" for a, b in zip(C.row, C.col, strict=True)]
    graph = pycleora.SparseMatrix.from_iterator(iter(lines), "complex::reflexive::node")

    def embed(S):
        E = graph.initialize_deterministically(d)
        for _ in range(4):
            E = graph.left_markov_propagate(E)
            E /= np.linalg.norm(E, axis=1, keepdims=True)
        return E

    return embed


def prone(S, d):
    from nodevectors import ProNE

    return lambda S: ProNE(n_components=d, step=5, verbose=False).fit_transform(sparse.csr_matrix(S))


# --- limits -------------------------------------------------------------------------------------------


def gathering(run, S, d):
    """Print the share of the machine's gather rate: the same rows summed in registers, nothing written."""
    if run.options.threads > 1:
        print("\n- share of the gather rate: measured on one thread alone")
        return
    import numba

    from linalg_ml.embedding._graph import as_graph
    from linalg_ml.embedding._kernels_numba import _gather
    from linalg_ml.embedding._powers import Walk

    @numba.njit(nogil=True)
    def plain(kind, index, rows, step, indices, size, acc):
        for c in range(0, step, 256):
            _gather(64, 0, kind, index, rows + c, step, indices, 0, 0, size, size, acc)

    @numba.njit(nogil=True)
    def plain_128(kind, index, rows, step, indices, size, acc):
        _gather(128, 0, kind, index, rows, step, indices, 0, 0, size, size, acc)

    walk, acc = Walk(as_graph(S, np.dtype(np.float32))), np.zeros(128, np.float32)
    panel = np.random.default_rng(0).standard_normal((S.shape[0], d)).astype(np.float32)
    out, total, squares = walk.empty(d), np.zeros_like(panel), walk.squares()
    arguments = np.float32(1), np.int32(0), panel.ctypes.data, 4 * d, S.indices.ctypes.data, S.nnz, acc.ctypes.data
    limit = plain_128 if d == 128 else plain
    timings = measure(
        {
            "limit": lambda: limit(*arguments),
            "power": lambda: walk.step(panel, out=out),
            "last power": lambda: walk.step(panel, alpha=1.0, fresh=True, total=total, squares=squares),
        },
        (),
        run.repeats,
    )
    seconds = {name: median(timing.cpu) for name, timing in timings.items()}
    print(f"\nGather limit: {4 * d * S.nnz / seconds['limit'] / 1e9:.1f} GB/s, {1e3 * seconds['limit']:.4g} ms.")
    for name in ("power", "last power"):
        shown = median(c / w for c, w in zip(timings[name].cpu, timings[name].wall, strict=True))
        run.goal(
            f"{name}, share of the gather limit (CPU/wall {shown:.2f})", seconds["limit"] / seconds[name], least=0.75
        )


def error_share(run, S, d):
    result = fastrp(S, n_components=d, rng=0)
    timings = run.compare(
        "the error, computed when asked for",
        {"fastrp": lambda: fastrp(S, n_components=d, rng=0), "estimate_error": result.estimate_error},
    )
    run.goal("time of the error to that of the embedding", run.ratio(timings, "estimate_error"), most=0.35)
    print(f"\n- relative error, as reported: {result.relative_error:.3g}")


# --- accuracy -----------------------------------------------------------------------------------------


def blogcatalog(run, path):
    """Print micro and macro F1 by the paper's protocol: as many labels are predicted as a node has."""
    z = np.load(path)
    n = int(z["shape"][0])
    S = sparse.csr_array((np.ones(z["indices"].size, np.float32), z["indices"], z["indptr"]), shape=(n, n))
    groups = (np.ones(z["label_indices"].size, bool), z["label_indices"], z["label_indptr"])
    Y = sparse.csr_array(groups, shape=(n, int(z["n_labels"]))).toarray()
    options = {"weights": (0.0, 0.0, 1.0, 6.67), "normalization": -0.64}
    seeds, sizes, ratios = ((0,), (32,), (0.5,)) if run.quick else ((0, 1, 2), (128, 512), RATIOS)
    print("\n### BlogCatalog, micro / macro F1\n\n| d | labelled | linalg_ml | SciPy | seeds' deviation (micro) |")
    print("| ---: | ---: | ---: | ---: | ---: |")
    for d in sizes:
        for ratio in ratios:
            scores = {"ours": [], "theirs": []}
            for seed in seeds:
                R = projection_matrix(np.arange(n), d, density=n**-0.5, rng=seed + 100)
                scores["ours"].append(f1(fastrp(S, n_components=d, rng=seed, **options).embedding, Y, ratio, seed))
                scores["theirs"].append(f1(published(S, R, **options), Y, ratio, seed))
            ours, theirs = (np.mean(scores[who], axis=0) for who in ("ours", "theirs"))
            spread = np.std([s[0] for s in scores["ours"]])
            cells = f"{ours[0]:.3f} / {ours[1]:.3f} | {theirs[0]:.3f} / {theirs[1]:.3f} | {spread:.3f}"
            print(f"| {d} | {ratio:.0%} | {cells} |", flush=True)


def f1(E, Y, ratio, seed):
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import f1_score
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.preprocessing import StandardScaler

    X = StandardScaler().fit_transform(E)
    order = np.random.default_rng(seed).permutation(len(X))
    cut = int(ratio * len(X))
    train, test = order[:cut], order[cut:]
    seen = Y[train].any(axis=0)
    model = OneVsRestClassifier(LogisticRegression(C=0.1, solver="liblinear")).fit(X[train], Y[np.ix_(train, seen)])
    scores = np.full((test.size, Y.shape[1]), -np.inf)
    scores[:, seen] = model.predict_proba(X[test])
    ranks = np.argsort(np.argsort(-scores, axis=1), axis=1)
    predicted = ranks < Y[test].sum(axis=1)[:, None]
    return [f1_score(Y[test], predicted, average=kind, zero_division=0) for kind in ("micro", "macro")]


if __name__ == "__main__":
    main()
