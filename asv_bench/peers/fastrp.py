"""Graph embeddings against the published arithmetic in SciPy, other packages, and the speed of gathering rows."""

import importlib.util
import os
import resource
import sys
import time
from functools import partial
from importlib.machinery import PathFinder
from pathlib import Path
from statistics import median

import numpy as np
from _harness import Run, Timing, measure
from scipy import sparse

from linalg_ml.embedding import fastrp, projection_matrix

WEIGHTS = (0.0, 0.0, 1.0, 1.0)
RATIOS = 0.01, 0.05, 0.1, 0.5, 0.9  # of labelled nodes, in the paper's protocol


def main():
    run = Run(__doc__, add_options, packages=("scikit-network", "pycleora", "nodevectors", "fastrp"))
    os.environ["RAYON_NUM_THREADS"] = str(run.options.threads)  # of peers in Rust, which are loaded later
    for name in run.options.only or SECTIONS:
        SECTIONS[name](run)
    if run.options.big:
        big(run)


def add_options(parser):
    parser.add_argument("--only", action="append", choices=list(SECTIONS), help="only this part; may be repeated")
    parser.add_argument("--blogcatalog", metavar="PATH", help="npz file of the BlogCatalog graph and its groups")
    parser.add_argument("--big", action="store_true", help="a graph of 10^8 edges once, too: 9 GB of memory, minutes")


def speed(run):
    S, d = graph(run)
    timings = run.compare(f"Embedding of {described(S)}, d = {d}, powers 3 and 4", embeddings(S, d, FAST), (S,))
    run.goal("times as fast as SciPy, CPU time of one core", run.ratio(timings, SCIPY, "cpu"), least=4.0)
    for name in list(timings)[2:]:
        run.goal(f"times as fast as {name}", run.ratio(timings, name), least=1.0)


def threads(run):
    """Compare two threads with the peers' one, as they come."""
    if (os.cpu_count() or 1) < 2:
        print("\nTwo threads: skipped, there is one core.")
        return
    S, d = graph(run)
    functions = embeddings(S, d, ())
    ours = functions.pop("linalg_ml fastrp")
    functions = {"two threads": partial(on_threads, 2, ours), "one thread": partial(on_threads, 1, ours), **functions}
    timings = run.compare(f"Embedding of {described(S)}, d = {d}, on two threads", functions, (S,), clock="wall")
    run.goal("two threads as fast as SciPy's one, wall time", run.ratio(timings, SCIPY, "wall"), least=7.0)
    pairs = zip(timings["two threads"].cpu, timings["two threads"].wall, strict=True)
    shown = ", ".join(f"{cpu / wall:.2f}" for cpu, wall in pairs)
    print(f"- CPU / wall of the runs on two threads: {shown}; below 1.6 they had not two free cores")
    two, one = (on_threads(count, ours, S).embedding for count in (2, 1))
    print("- the embeddings are " + ("bit-equal" if two.tobytes() == one.tobytes() else "NOT EQUAL"))


def on_threads(count, function, *inputs):
    from numba import config

    before, config.NUMBA_NUM_THREADS = config.NUMBA_NUM_THREADS, count
    try:
        return function(*inputs)
    finally:
        config.NUMBA_NUM_THREADS = before


def slow(run):
    """Compare with peers that take seconds where we take milliseconds, on a smaller graph."""
    n, degree, d = (2_000, 5, 32) if run.quick else (20_000, 10, 128)
    S = popular(n, degree)
    title = f"Embedding of {described(S)}, d = {d}, slower peers"
    timings = run.compare(title, embeddings(S, d, SLOW), (S,), repeats=5)
    for name in list(timings)[1:]:
        run.goal(f"times as fast as {name}", run.ratio(timings, name), least=1.0)


def million(run):
    n, degree, d = (20_000, 10, 64) if run.quick else (1_000_000, 10, 128)
    S = popular(n, degree)
    title = f"Embedding of {described(S)}, d = {d}, 3 runs"
    timings = run.compare(title, embeddings(S, d, ()), (S,), repeats=3)
    run.goal("times as fast as SciPy, CPU time of one core", run.ratio(timings, SCIPY, "cpu"), least=4.0)


def graph(run):
    n, degree, d = (20_000, 10, 64) if run.quick else (200_000, 10, 128)
    return popular(n, degree), d


def described(S):
    return f"a Barabási–Albert graph, {S.shape[0]} nodes, {S.nnz} stored entries"


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


def embeddings(S, d, peers):
    functions = {
        "linalg_ml fastrp": lambda S: fastrp(S, n_components=d, weights=WEIGHTS, rng=0),
        SCIPY: lambda S: published(S, projection_matrix(np.arange(S.shape[0]), d, density=S.shape[0] ** -0.5, rng=0)),
    }
    for package, name, make in peers:
        if installed(package) is None:
            print(f"\n{name}: skipped, {package} is not installed.")
        else:
            functions[name] = make(S, d)
    return functions


def installed(package):
    """Return the spec of a package, never this script, one of which has the same name."""
    here = Path(__file__).resolve().parent
    return PathFinder.find_spec(package, [path for path in sys.path if Path(path).resolve() != here])


def in_rust(S, d):
    spec = installed("fastrp")
    module = importlib.util.module_from_spec(spec)
    sys.modules["fastrp"] = module  # its own imports are relative
    spec.loader.exec_module(module)
    weights = [0.0, *WEIGHTS]  # it counts from power 0
    return lambda S: module.fit_csr(
        S.indptr, S.indices, S.data, S.shape[0], dim=d, weights=weights, seed=0, undirected=False
    )


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

    def embed(S):  # it changes the number of Numba's threads for good, in the environment and in Numba
        name = "NUMBA_NUM_THREADS"
        before = os.environ[name]
        try:
            return on_threads(
                int(before), ProNE(n_components=d, step=5, verbose=False).fit_transform, sparse.csr_matrix(S)
            )
        finally:
            os.environ[name] = before

    return embed


FAST = ("pycleora", "pycleora, 4 iterations", cleora), ("fastrp", "fastrp of PyPI", in_rust)
SLOW = (
    ("sknetwork", "scikit-network RandomProjection", scikit_network),
    ("nodevectors", "nodevectors ProNE", prone),
)


# --- limits -------------------------------------------------------------------------------------------


def gathering(run):
    """Print the share of the machine's gather rate: the same rows summed in registers, nothing written."""
    import numba

    from linalg_ml.embedding._graph import as_graph
    from linalg_ml.embedding._kernels_numba import _gather
    from linalg_ml.embedding._powers import Walk

    S, d = graph(run)

    @numba.njit(nogil=True)
    def plain(kind, index, rows, step, indices, size, acc):
        for c in range(0, step, 256):
            _gather(64, 0, kind, index, rows + c, step, indices, 0, 0, size, size, acc)

    @numba.njit(nogil=True)
    def plain_128(kind, index, rows, step, indices, size, acc):
        _gather(128, 0, kind, index, rows, step, indices, 0, 0, size, size, acc)

    walk, acc = Walk(as_graph(S, np.dtype(np.float32))), np.zeros(128, np.float32)
    panel = walk.empty(d)
    panel[...] = np.random.default_rng(0).standard_normal(panel.shape)
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
    print(f"\n### One power of {described(S)}, d = {d}, against the same rows summed in registers, nothing written")
    print(f"\nGather limit: {4 * d * S.nnz / seconds['limit'] / 1e9:.1f} GB/s, {1e3 * seconds['limit']:.4g} ms.")
    for name in ("power", "last power"):
        shown = median(c / w for c, w in zip(timings[name].cpu, timings[name].wall, strict=True))
        run.goal(
            f"{name}, share of the gather limit (CPU/wall {shown:.2f})", seconds["limit"] / seconds[name], least=0.75
        )


def error_share(run):
    S, d = graph(run)
    result = fastrp(S, n_components=d, rng=0)
    timings = run.compare(
        "the error, computed when asked for",
        {"fastrp": lambda: fastrp(S, n_components=d, rng=0), "estimate_error": result.estimate_error},
    )
    run.goal("time of the error to that of the embedding", run.ratio(timings, "estimate_error"), most=0.35)
    print(f"\n- relative error, as reported: {result.relative_error:.3g}")


# --- accuracy -----------------------------------------------------------------------------------------


def blogcatalog(run):
    """Print micro and macro F1 by the paper's protocol: as many labels are predicted as a node has."""
    if run.options.blogcatalog is None:
        print("\nBlogCatalog: skipped, no path was given (`--blogcatalog`).")
        return
    z = np.load(run.options.blogcatalog)
    n = int(z["shape"][0])
    S = sparse.csr_array((np.ones(z["indices"].size, np.float32), z["indices"], z["indptr"]), shape=(n, n))
    groups = (np.ones(z["label_indices"].size, bool), z["label_indices"], z["label_indptr"])
    Y = sparse.csr_array(groups, shape=(n, int(z["n_labels"]))).toarray()
    options = {"weights": (0.0, 0.0, 1.0, 6.67), "normalization": -0.64}
    seeds, sizes, ratios = ((0,), (32,), (0.5,)) if run.quick else ((0, 1, 2), (128, 512), RATIOS)
    embedded = {"linalg_ml fastrp": lambda: fastrp(S, n_components=512, rng=0, **options)}
    embedded[SCIPY] = lambda: published(S, projection_matrix(np.arange(n), 512, density=n**-0.5, rng=0), **options)
    run.compare("Embedding of BlogCatalog, d = 512", embedded)
    print(f"\n### BlogCatalog, micro / macro F1, means over {len(seeds)} seeds")
    print("\n| d | labelled | linalg_ml | SciPy | deviation over seeds, micro / macro | difference, micro / macro |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: |")
    worst = 0.0
    for d in sizes:
        for ratio in ratios:
            scores = {"ours": [], "theirs": []}
            for seed in seeds:
                R = projection_matrix(np.arange(n), d, density=n**-0.5, rng=seed + 100)
                scores["ours"].append(f1(fastrp(S, n_components=d, rng=seed, **options).embedding, Y, ratio, seed))
                scores["theirs"].append(f1(published(S, R, **options), Y, ratio, seed))
            ours, theirs = (np.mean(scores[who], axis=0) for who in ("ours", "theirs"))
            spread = np.std(scores["ours"], axis=0, ddof=min(1, len(seeds) - 1))
            off = ours - theirs
            worst = max(worst, *(-off / np.maximum(spread, 1e-300)))
            pairs = (f"{a[0]:{form}} / {a[1]:{form}}" for a, form in ((ours, ".3f"), (theirs, ".3f"), (spread, ".3f"),
                                                                      (off, "+.3f")))  # fmt: skip
            print(f"| {d} | {ratio:.0%} | {' | '.join(pairs)} |", flush=True)
    run.goal("largest shortfall to SciPy, in deviations of one seed", worst, most=2.0)


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
    model = OneVsRestClassifier(LogisticRegression(C=0.1, max_iter=500)).fit(X[train], Y[np.ix_(train, seen)])
    scores = np.full((test.size, Y.shape[1]), -np.inf)
    scores[:, seen] = model.predict_proba(X[test])
    ranks = np.argsort(np.argsort(-scores, axis=1), axis=1)
    predicted = ranks < Y[test].sum(axis=1)[:, None]
    return [f1_score(Y[test], predicted, average=kind, zero_division=0) for kind in ("micro", "macro")]


# --- once, by hand ------------------------------------------------------------------------------------


def big(run):
    """Embed a graph of 10^8 edges, d = 64, once, in this process: print seconds and the largest resident set."""
    n, edges = (100_000, 10**6) if run.quick else (10**7, 10**8)
    clock = time.perf_counter()
    S = skewed(n, edges)
    made, resident = time.perf_counter() - clock, peak_resident()
    timing = Timing()
    timing.record(lambda: fastrp(S, n_components=64, rng=0))
    size = S.indptr.nbytes + S.indices.nbytes + S.data.nbytes
    print(f"\n### {n} nodes, {S.nnz} stored entries (both directions), d = 64, once\n")
    print(f"- the graph: {size / 1e9:.2f} GB, made in {made:.0f} s; largest resident set until then {resident:.2f} GB")
    share = timing.cpu[0] / timing.wall[0]
    print(f"- embedding: {timing.wall[0]:.1f} s wall, {timing.cpu[0]:.1f} s CPU, CPU / wall {share:.2f}")
    print(f"- largest resident set of the process: {peak_resident():.2f} GB, of which output {n * 256 / 1e9:.2f} GB")


def peak_resident():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def skewed(n, edges):
    """Return an undirected graph whose edges prefer low ranks, in random order of nodes; rows are made in place."""
    import numba

    @numba.njit
    def ends(e, n):
        word = np.uint64(e) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(1)
        word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        word ^= word >> np.uint64(31)
        x, y = (word >> np.uint64(32)) * 2.0**-32, (word & np.uint64(0xFFFFFFFF)) * 2.0**-32
        step = 7_368_787  # a prime that does not divide n: ranks are spread over the nodes
        return int(n * x * x) * step % n, int(n * y) * step % n

    @numba.njit
    def fill(n, edges, indptr, indices):
        for e in range(edges):
            a, b = ends(e, n)
            indptr[a] += 1
            indptr[b] += 1
        for i in range(n):
            indptr[i + 1] += indptr[i]
        for e in range(edges):
            a, b = ends(e, n)
            indptr[a] -= 1
            indices[indptr[a]] = b
            indptr[b] -= 1
            indices[indptr[b]] = a
        at = 0
        for i in range(n):  # sort, and drop what is there twice
            row = np.sort(indices[indptr[i] : indptr[i + 1]])
            indptr[i] = at
            for k in range(row.size):
                if k == 0 or row[k] != row[k - 1]:
                    indices[at] = row[k]
                    at += 1
        indptr[n] = at
        return at

    indptr, indices = np.zeros(n + 1, np.int64), np.empty(2 * edges, np.int32)
    nnz = fill(n, edges, indptr, indices)
    data = np.ones(nnz, np.float32)
    S = sparse.csr_array((n, n), dtype=np.float32)  # the constructor would make indices as wide as indptr
    S.data, S.indices, S.indptr = data, indices[:nnz], indptr
    return S


SECTIONS = {
    "blogcatalog": blogcatalog,
    "speed": speed,
    "threads": threads,
    "million": million,
    "gather": gathering,
    "error": error_share,
    "slow": slow,
}


if __name__ == "__main__":
    main()
