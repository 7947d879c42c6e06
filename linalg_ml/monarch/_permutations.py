"""Permutations as three block stages of zeros and ones, or as a Monarch matrix where they are one."""

from typing import Any

import numpy as np
from array_api_compat import array_namespace, is_array_api_obj
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from .._core.arrays import like, to_numpy
from ._layout import check_size
from ._matrix import MonarchMatrix
from ._stages import Blocks, blocks
from ._transforms import _REAL, _dtype_name, inner_blocks


def from_permutation(
    perm: Any, nblocks: int | tuple[int, int] | None = None, *, dtype: Any = "float64"
) -> MonarchMatrix:
    """Make a permutation matrix as an exact chain of block stages, without a gather.

    Parameters
    ----------
    perm : array_like of int, shape (n,)
        Every number from 0 to n-1 once, of any array library.
    nblocks : int or (int, int), optional
        b, a divisor of n, or (n/b, b): the numbers form b groups of n/b neighbours. By default the largest divisor
        ≤ √n.
    dtype : {"float64", "float32"}, default "float64"
        Of the entries, which are 0 and 1.

    Returns
    -------
    P : MonarchMatrix, shape (n, n)
        ``P @ x`` is ``x[perm]``, exactly. Two stages, with `left` and `right`, if nblocks (n/b, b) or (b, b) allow it;
        else three, with blocks of n/b, b and n/b rows.

    Raises
    ------
    ValueError
        If `perm` is not a permutation, or `nblocks` does not fit n.
    TypeError
        If `perm` does not hold integers.

    See Also
    --------
    MonarchMatrix.from_stages : takes a permutation as a gather, which needs no numbers.

    Notes
    -----
    A Clos network of three stages realises every permutation [1]_: count the numbers that go from each input group to
    each output group. The table has equal sums of rows and columns, so it is a sum of n/b permutations of b groups
    (König), one for each switch of the middle stage. They are found by as many bipartite matchings of at most
    n edges. Two stages are enough if and only if no slice of the matrix holds two ones.

    As block stages, unlike as a gather, a permutation can be the start of training.

    References
    ----------
    .. [1] C. Clos, "A study of non-blocking switching networks", Bell System Technical Journal 32 (1953), 406-424.
    .. [2] D. König, "Über Graphen und ihre Anwendung auf Determinantentheorie und Mengenlehre", Mathematische
       Annalen 77 (1916), 453-465.

    Examples
    --------
    >>> import numpy as np
    >>> from linalg_ml import monarch
    >>> perm = np.random.default_rng(0).permutation(12)
    >>> P = monarch.from_permutation(perm)
    >>> P
    <MonarchMatrix 12 × 12, 3 stages, 132 parameters>
    >>> bool(np.array_equal(P @ np.arange(12.0), perm))
    True
    """
    name = _dtype_name(dtype, _REAL)
    raw = perm if is_array_api_obj(perm) else np.asarray(perm)
    index = _checked(raw)
    n = index.size
    b = inner_blocks(n, nblocks)
    check_size(n, n)
    chain = _two_stages(index, n // b, b)
    if chain is None:
        chain = _two_stages(index, b, b)
    if chain is None:
        chain = _three_stages(index, b)
    return MonarchMatrix._of(tuple(Blocks(like(stage.values, raw, name), stage.form) for stage in chain))


def _checked(raw: Any) -> np.ndarray:
    """Return the permutation on the host, or say what is wrong with it."""
    if raw.ndim != 1 or not raw.shape[0]:
        raise ValueError(f"perm must be 1-d and not empty, got shape {tuple(raw.shape)}")
    if not array_namespace(raw).isdtype(raw.dtype, "integral"):
        raise TypeError(f"perm must hold integers, got dtype {raw.dtype}")
    index = to_numpy(raw)
    n = index.size
    inside = (index >= 0) & (index < n)
    if not inside.all():
        raise ValueError(f"perm must hold the numbers 0 to {n - 1}, got {index[~inside][0]}")
    index = index.astype(np.int64)
    counts = np.bincount(index, minlength=n)
    if counts.max() > 1:
        raise ValueError(f"perm must hold every number once, got {counts.argmax()} {counts.max()} times")
    return index


def _two_stages(index: np.ndarray, J: int, K: int) -> tuple[Blocks, ...] | None:
    """Return the two-stage form with nblocks (J, K), if no slice holds two ones."""
    n = index.size
    row = np.arange(n)
    (l, j), (k, i) = np.divmod(row, J), np.divmod(index, n // K)
    if n > J * K or np.bincount(k * J + j).max() > 1:
        return None
    left, right = np.zeros((J, n // J, K, 1)), np.zeros((K, 1, J, n // K))
    left[j, l, k, 0] = right[k, 0, j, i] = 1
    return Blocks(left, (1, J, n // J, K)), Blocks(right, (K, 1, J, n // K))


def _three_stages(index: np.ndarray, b: int) -> tuple[Blocks, ...]:
    """Return the Clos network: from its place to a switch in each input group, from group to group in each switch."""
    n = index.size
    s = n // b
    (target, place), (source, origin) = np.divmod(np.arange(n), s), np.divmod(index, s)
    switch = _switches(target, source, b, s)
    last, middle, first = np.zeros((b, 1, s, s)), np.zeros((1, s, b, b)), np.zeros((b, 1, s, s))
    last[target, 0, place, switch] = 1
    middle[0, switch, target, source] = 1
    first[source, 0, switch, origin] = 1
    return blocks(last), blocks(middle), blocks(first)


def _switches(target: np.ndarray, source: np.ndarray, b: int, s: int) -> np.ndarray:
    """Give every number a switch 0 … s-1, so that those of one switch have different targets and different sources.

    A perfect matching of the groups is peeled off as often as its rarest pair allows.
    """
    pair = target * b + source
    queue = np.argsort(pair, kind="stable")  # the numbers, those of one pair of groups side by side
    counts = np.bincount(pair, minlength=b * b)
    following = np.cumsum(counts) - counts  # the next of each pair
    counts = counts.reshape(b, b)
    switch = np.empty(pair.size, np.int64)
    groups, used = np.arange(b), 0
    while used < s:
        match = maximum_bipartite_matching(csr_array(counts > 0), perm_type="column")
        times = int(counts[groups, match].min())
        at = groups * b + match
        for t in range(used, used + times):
            switch[queue[following[at]]] = t
            following[at] += 1
        counts[groups, match] -= times
        used += times
    return switch
