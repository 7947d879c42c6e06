"""Chains of more than two factors: one split after the other, with bounds on what all of them lose together.

Rows have digits o_1 … o_p and columns i_1 … i_p, the first of each the most significant. Factor t has the shape
(a_t, d_t, r·o_t, i_t·r) with a_t = i_1⋯i_{t-1} and d_t = o_{t+1}⋯o_p; at both ends of the chain r is 1. What is left of
A before split t is a stack of a_t matrices, (r·o_t)·d_t × i_t·rest, and the split is the best Monarch approximation of
each with nblocks (d_t, i_t): left is the factor, right the next stack.
"""

import math
import operator
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from .._core.arrays import Array, check_int, device, is_complex, namespace, real_dtype, to_numpy, wide
from .._core.convergence import warn_unconverged
from .._core.random import child
from .._core.scaling import times_powers
from .._linalg.estimates import exact_norm
from ._form import dense_two_stage
from ._layout import Layout, check_rank
from ._matrix import MonarchMatrix
from ._nearest import Found, assembled, nearest
from ._slices import panels
from ._stages import Chain, blocks

_PANEL = 2**18  # numbers of A that are compared with the product at a time


def project_chain(
    A: Array,
    order: int,
    digits: Any,
    rank: int,
    *,
    refine: bool = False,
    max_iter: int = 20,
    tol: float = 1e-6,
    certify: bool = False,
    method: str = "auto",
    key: int = 0,
) -> MonarchMatrix:
    """Return the approximation of one matrix, finite and in its dtype of computation, by hierarchical splitting."""
    m, n = A.shape
    cuts = _cuts(*_digits(m, n, order, digits), rank)
    if refine and rank > 1 and len(cuts) > 1:
        raise ValueError(f"refine=True is for rank 1, got rank {rank}")
    if len(cuts) == 1:
        return _closed_form(A, cuts[0], rank, method, key, refine=refine, certify=certify)
    split, used = _split(A, cuts, rank, method, key)
    facts: dict[str, Any] = {"n_iter": 0, "method": used}
    error = _residual(A, cuts, split)
    if refine:
        split, error, n_iter, converged = _refined(A, cuts, split, error, max_iter, tol)
        facts.update(n_iter=n_iter, converged=converged)
    facts["error"] = error
    facts["relative_error"] = _scaled(error, split.half) / split.norm if split.norm else 0.0
    facts["level_errors"] = tuple(_unscaled(e, split.half) for e in split.errors)
    if certify:
        facts["lower_bound"] = max(_least_error(A, cut, rank) for cut in _bisections(cuts))
    return MonarchMatrix._of(_chain(split), **facts)


def _closed_form(
    A: Array, cut: Layout, rank: int, method: str, key: int, *, refine: bool, certify: bool
) -> MonarchMatrix:
    """Return the best approximation by two factors: what one would refine is the optimum."""
    M = assembled(A, cut, *nearest(A, cut, rank, method, key, finite=False), certify=certify)
    assert M.error is not None
    M.level_errors = (M.error,)
    if refine:
        M.converged = True
    if certify:
        M.lower_bound = _least_error(A, cut, rank)
    return M


# --- digits -------------------------------------------------------------------------------------------------


def one_tuple(n: int, order: Any, digits: Any) -> tuple[int, ...]:
    """Return the digits of 0 … n-1: those given, or the `order` factors > 1 of n of the least sum, ascending."""
    return _digits(n, n, order, digits)[0] if digits is None else _given(digits, n, order, "n")


def _digits(m: int, n: int, order: Any, digits: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the digits of rows and of columns: those given, or the factors of least sum."""
    order = check_int(order, "order", 2)
    if digits is None:
        return _factors(m, order), _factors(n, order)
    pair = tuple(digits) if isinstance(digits, list | tuple) else (digits,)
    if len(pair) != 2 or not all(isinstance(one, list | tuple) for one in pair):
        pair = digits, digits
    outs, ins = _given(pair[0], m, order, "rows"), _given(pair[1], n, order, "columns")
    if len(outs) != len(ins):
        raise ValueError(f"digits must be as many for rows as for columns, got {outs} and {ins}")
    return outs, ins


def _given(digits: Any, size: int, order: Any, of: str) -> tuple[int, ...]:
    """Return digits as a tuple of integers whose product is `size`."""
    try:
        sizes = tuple(operator.index(digit) for digit in digits)
    except TypeError:
        accepted = "a tuple of integers" if of == "n" else "a tuple of integers or a pair of such tuples"
        raise ValueError(f"digits must be {accepted}, got {digits!r}") from None
    if len(sizes) < 2 or min(sizes) < 1:
        raise ValueError(f"digits must be at least two integers ≥ 1, got {sizes}")
    if order not in (2, len(sizes)):
        raise ValueError(f"order must be left out or be the number of digits, {len(sizes)}, got {order}")
    if math.prod(sizes) != size:
        what = f"n = {size}" if of == "n" else f"{size}, the number of {of}"
        raise ValueError(f"digits must have the product {what}, got {sizes}")
    return sizes


def _factors(n: int, count: int) -> tuple[int, ...]:
    """Return the `count` factors > 1 of n of the least sum, ascending; of equal sums those with the least maximum."""
    best = min(_factorisations(n, count, 2), key=lambda found: (sum(found), found[-1]), default=None)
    if best is None:
        raise ValueError(f"order must be at most the number of prime factors of each size, got {count} for {n}")
    return best


def _factorisations(n: int, count: int, least: int) -> Iterator[tuple[int, ...]]:
    """Yield the ways to write n as a product of `count` factors ≥ `least`, ascending; at least two at first."""
    if count == 1:  # n is at least that, by the loop below
        yield (n,)
        return
    factor = least
    while factor**count <= n:
        if n % factor == 0:
            for others in _factorisations(n // factor, count - 1, factor):
                yield factor, *others
        factor += 1


def _cuts(outs: tuple[int, ...], ins: tuple[int, ...], rank: int) -> list[Layout]:
    """Return how the stack before each split is cut, if its slices can have that rank."""
    cuts = []
    for t in range(len(outs) - 1):
        J, K = math.prod(outs[t + 1 :]), ins[t]
        p, q = outs[t] * (rank if t else 1), math.prod(ins[t + 1 :])
        try:
            check_rank(rank, p, q)
        except ValueError as error:
            raise ValueError(f"level {t + 1}: {error}") from None
        cuts.append(Layout(p * J, K * q, J, K, p, q))
    return cuts


def _bisections(cuts: list[Layout]) -> list[Layout]:
    """Return, for each split, how A itself is cut into two factors there."""
    m, n = cuts[0].m, cuts[0].n
    found, K = [], 1
    for cut in cuts:
        K *= cut.K
        found.append(Layout(m, n, cut.J, K, m // cut.J, n // K))
    return found


# --- splitting ----------------------------------------------------------------------------------------------


class _Split(NamedTuple):
    """A ≈ 4**half · product of the factors; errors and norms are of A / 4**half."""

    lefts: list[Array]  # (a_t, d_t, r·o_t, i_t, r), orthonormal columns but for the last
    right: Array  # (a, i, r, o, i'), of the last split
    half: int
    errors: list[float]  # of each split
    norm: float


def _split(A: Array, cuts: list[Layout], rank: int, method: str, key: int) -> tuple[_Split, str]:
    """Split off one factor after the other, each the best for what is left."""
    found, used = nearest(A[None, ...], cuts[0], rank, method, key, finite=False)
    half = _half_exponent(found.sigma)
    norm, errors = (_scaled(exact_norm(norms), half) for norms in (found.norm, found.residual))
    left, right = _isometric(found, half)
    lefts, level_errors = [left], [errors]
    for t, cut in enumerate(cuts[1:], 1):
        stack = namespace(right).reshape(right, (-1, cut.m, cut.n))
        found, _ = nearest(stack, cut, rank, method, child(key, t), finite=False)
        last = t == len(cuts) - 1
        left, right = (found.left, found.right) if last else _isometric(found, 0)
        lefts.append(left)
        level_errors.append(exact_norm(found.residual))
    return _Split(lefts, right, half, level_errors, norm), used


def _isometric(found: Found, half: int) -> tuple[Array, Array]:
    """Return factors u and σ vᴴ / 4**half of u√σ and √σ vᴴ."""
    left, right = (times_powers(X, np.asarray(-half), 1) for X in (found.left, found.right))
    xp = namespace(left)
    root = xp.linalg.vector_norm(left, axis=-3, keepdims=True)  # (…, J, 1, K, r)
    left = left / xp.where(root > 0, root, xp.ones_like(root))
    return left, right * xp.permute_dims(root[..., 0, :, :], (0, 2, 3, 1))[..., None]


def _half_exponent(sigma: np.ndarray) -> int:
    """Return e with 4**e near the largest singular value, so far as 4**-e is a number."""
    return int(np.clip(math.frexp(float(sigma.max()))[1] // 2, -500, 500))


def _scaled(value: float, half: int) -> float:
    return math.ldexp(value, -2 * half)


def _unscaled(value: float, half: int) -> float:
    return math.ldexp(value, 2 * half)


def _chain(split: _Split) -> Chain:
    """Return the stages; the last two share the scale of A."""
    xp = namespace(split.right)
    lefts = [*split.lefts[:-1], times_powers(split.lefts[-1], np.asarray(split.half), 1)]
    stages = [blocks(xp.reshape(X, (*X.shape[:3], X.shape[3] * X.shape[4]))) for X in lefts]
    a, i, r, o, rest = split.right.shape
    last = times_powers(xp.reshape(split.right, (a * i, 1, r * o, rest)), np.asarray(split.half), 1)
    return (*stages, blocks(last))


# --- errors -------------------------------------------------------------------------------------------------


def _residual(A: Array, cuts: list[Layout], split: _Split) -> float:
    """Return ‖A - 4**half · product‖_F of the factors as they are; a few columns at a time, in double precision."""
    lefts, right = [wide(X) for X in split.lefts], wide(split.right)
    xp = namespace(right)
    rank = right.shape[2]
    for t in range(len(cuts) - 1, 0, -1):
        before = cuts[t - 1]
        right = xp.reshape(dense_two_stage(lefts[t], right, cuts[t]), (-1, before.K, rank, before.J, before.q))
    parts, cut = _parts(cuts[0]), cuts[0]
    narrow = cut._replace(K=cut.K * parts, q=cut.q // parts)
    U = xp.permute_dims(lefts[0][0, ...], (2, 0, 1, 3))  # (K, J, p, r)
    V = xp.permute_dims(xp.reshape(right, (cut.K, rank, cut.J, parts, narrow.q)), (0, 3, 2, 1, 4))
    U, V = (times_powers(X, np.asarray(split.half), 1) for X in (U, V))
    norms = [
        exact_norm(wide(panel) - xp.matmul(U[k // parts, ...], V[k // parts, k % parts, ...]))
        for k, panel in panels(A, narrow, finite=False)
    ]
    return exact_norm(np.array(norms))


def _parts(cut: Layout) -> int:
    """Return in how many parts a column block is compared."""
    return next(d for d in range(1, cut.q + 1) if cut.q % d == 0 and (cut.m * cut.q // d <= _PANEL or d == cut.q))


def _least_error(A: Array, cut: Layout, rank: int) -> float:
    """Return a lower bound on the error of any two factors of A: singular values that no rank keeps.

    In double precision by LAPACK, whose values are off by a few roundings of the largest; so much is subtracted.
    """
    xp = namespace(A)
    beyond, norms = [], []
    for _, panel in panels(A, cut, finite=False):
        values = to_numpy(xp.linalg.svdvals(wide(panel)))
        beyond.append(exact_norm(values[..., rank:]) if values.shape[-1] > rank else 0.0)
        norms.append(exact_norm(values))
    rounding = 4 * max(cut.p, cut.q) ** 0.5 * float(np.finfo(np.float64).eps)
    return max(0.0, exact_norm(np.array(beyond)) - rounding * exact_norm(np.array(norms)))


# --- refinement ---------------------------------------------------------------------------------------------


def _refined(
    A: Array, cuts: list[Layout], split: _Split, error: float, max_iter: int, tol: float
) -> tuple[_Split, float, int, bool]:
    """Return what sweeps of least squares make of the factors: error, sweeps, and whether they ended by themselves.

    A step x → x' on an entry lowers the squared error by |x' - x|² ⟨g, g⟩, so that nothing cancels in the falls.
    """
    floor = 10 * float(np.finfo(real_dtype(A)).eps) * split.norm
    factors = [X[..., 0] for X in split.lefts] + [_last_factor(split.right)]
    loss, fall, n_iter = _scaled(error, split.half) ** 2, math.inf, 0
    converged = loss <= floor**2
    while not converged and n_iter < max_iter:
        fall = _sweep(A, factors, split.half)
        n_iter += 1
        converged = fall <= tol * loss or loss - fall <= floor**2
        loss = max(loss - fall, 0.0)
    if n_iter == 0 and converged:
        return split, error, 0, True
    if not converged:
        _warn(max_iter, fall / (loss + fall) if n_iter else 1.0, tol)
    found = split._replace(lefts=[X[..., None] for X in factors[:-1]], right=_as_right(factors[-1], split.right))
    left = _residual(A, cuts, found)
    return (found, left, n_iter, converged) if left < error else (split, error, n_iter, converged)


def _warn(max_iter: int, fall: float, tol: float) -> None:
    warn_unconverged(
        f"refinement stopped after {max_iter} sweeps, the last of which lowered the squared error by {fall:.1e} of it, "
        f"where tol is {tol:.1e}",
        5,
    )


def _last_factor(right: Array) -> Array:
    """Return right (a, i, 1, o, i') of the last split as factor (a·i, 1, o, i')."""
    a, i, _, o, rest = right.shape
    return namespace(right).reshape(right, (a * i, 1, o, rest))


def _as_right(last: Array, right: Array) -> Array:
    """Undo `_last_factor`."""
    return namespace(last).reshape(last, right.shape)


def _sweep(A: Array, factors: list[Array], half: int) -> float:
    """Replace each factor (a, d, o, i) in turn by the best one for the others; return the fall of the squared error.

    Entry x of factor t touches the entries of A whose digits i_1 … i_t and o_t … o_p it has, and is ⟨A, g⟩/⟨g, g⟩ with
    the product g of all other factors. For ⟨A, g⟩ the factors before t are multiplied into A once and for all, which
    sums over the digits before o_t, and those behind t anew for each t.
    """
    xp = namespace(A)
    info = np.finfo(real_dtype(A))
    behind = _energies_behind(factors)
    a, d, o, i = factors[0].shape
    Y = xp.reshape(A, (a, o, d, i, -1))
    before = xp.ones_like(behind[0][:, :1, :]) * xp.ones((1, o, 1), dtype=behind[0].dtype, device=device(A))
    fall = 0.0
    for t, X in enumerate(factors):
        scale = half if t == 0 else 0
        energy = _spread(before)[..., None] * _spread(behind[t])[:, :, None, :]
        seen = energy > float(info.tiny / info.eps)  # what multiplies nothing stays as it is
        N = _times_behind(Y, factors[t + 1 :], scale)
        factors[t] = new = xp.where(seen, N / xp.where(seen, energy, xp.ones_like(energy)), X)
        fall += exact_norm((new - X) * xp.sqrt(energy)) ** 2
        if t + 1 < len(factors):
            _, d, o, i = factors[t + 1].shape
            Y = xp.reshape(_times_before(Y, new, scale), (-1, o, d, i, Y.shape[4] // i))
            kept = xp.sum(xp.abs(new) ** 2 * _spread(before)[..., None], axis=2)  # (a, d, i)
            before = xp.reshape(_spread(kept), (-1, o, d))
    return fall


def _spread(X: Array) -> Array:
    """Swap the last two axes of (a, x, y)."""
    return namespace(X).matrix_transpose(X)


def _energies_behind(factors: list[Array]) -> list[Array]:
    """Return for each t the squared norms (a_t, i_t, d_t) of the product of the factors behind it."""
    xp = namespace(factors[0])
    found: list[Array] = [xp.ones_like(xp.abs(factors[-1][:, :, 0, :]))]  # (a, 1, i)
    found[0] = _spread(found[0])
    for X, ahead in zip(factors[:0:-1], factors[-2::-1], strict=True):
        energies = xp.sum(xp.abs(X) ** 2 * _spread(found[0])[:, :, None, :], axis=3)  # (a, d, o)
        a, d, _, i = ahead.shape
        found.insert(0, xp.reshape(_spread(energies), (a, i, d)))
    return found


def _times_behind(Y: Array, factors: list[Array], half: int) -> Array:
    """Return the sums (a, d, o, i) of Y/4**half (a, o, d, i, rest) times the conjugate product of the factors."""
    xp = namespace(Y)
    a, o, d, i, rest = Y.shape
    Z, inner = Y, i * rest
    for X in reversed(factors):
        _, after, digit, size = X.shape
        tail, inner = digit * after, inner // size
        Z = xp.permute_dims(xp.reshape(Z, (a, o * d // tail, tail, inner, size)), (0, 3, 2, 1, 4))
        V = xp.reshape(xp.permute_dims(_conj(X), (0, 2, 1, 3)), (a, inner, tail, size, 1))
        Z = xp.permute_dims(_scaled_product(Z, V, half)[..., 0], (0, 3, 2, 1))  # (a, head, tail, inner)
        half = 0
    return xp.permute_dims(xp.reshape(Z, (a, o, d, i)), (0, 2, 1, 3))


def _times_before(Y: Array, X: Array, half: int) -> Array:
    """Return the sums (a, i, d, rest) over o of Y/4**half (a, o, d, i, rest) times the conjugate of X (a, d, o, i)."""
    xp = namespace(Y)
    V = xp.permute_dims(_conj(X), (0, 3, 1, 2))[..., None, :]
    return _scaled_product(V, xp.permute_dims(Y, (0, 3, 2, 1, 4)), half)[..., 0, :]


def _scaled_product(X: Array, Y: Array, half: int) -> Array:
    """Return X Y / 4**half, one of which has entries near 4**half; the other, small, takes part of the power."""
    if X.shape[-2] == 1:
        X = times_powers(X, np.asarray(-half), 1)
    else:
        Y = times_powers(Y, np.asarray(-half), 1)
    return times_powers(namespace(X).matmul(X, Y), np.asarray(-half), 1)


def _conj(X: Array) -> Array:
    return namespace(X).conj(X) if is_complex(X) else X
