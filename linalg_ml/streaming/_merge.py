"""Joining two streams of the same settings: what both track, about one shift and in one scale."""

from dataclasses import replace

import numpy as np

from .._core.arrays import Array, cast, like, namespace
from ._blocks import Block, is_csr, to_host, weighed
from ._intake import Consumer, Intake
from ._subspace import Subspace, Window, orthonormal_basis


def merge_subspaces(a: Subspace, b: Subspace) -> None:
    """Put the history of `b`, of the same shift and scale, into `a`."""
    xp = namespace(a.V)
    parts = [(a.V, a.S, a.tau), (b.V, b.S, b.tau)]
    rows = [a.V, b.V]
    energy, bridge = a.energy + b.energy, None
    if a.center:
        share = a.weight / (a.weight + b.weight)
        jump = a.mean - b.mean
        bridge = (share * b.weight) ** 0.5 * jump[None, :]
        energy += float(xp.sum(bridge * bridge))
        a.mean = a.mean - (1 - share) * jump
        rows.append(bridge)
    Q = orthonormal_basis(xp.concat(rows, axis=0))
    M = np.zeros((Q.shape[0], Q.shape[0]))
    for V, S, tau in parts:
        P = to_host(xp.matmul(V, xp.matrix_transpose(Q)))
        M += (P.T * np.maximum(S - tau, 0.0)) @ P
    if bridge is not None:
        p = to_host(xp.matmul(bridge, xp.matrix_transpose(Q)))
        M += p.T @ p
    w, U = np.linalg.eigh(M)
    turn = np.ascontiguousarray(U[:, ::-1][:, : a.size].T)
    a.V = xp.matmul(like(turn, Q), Q)
    a.S = np.maximum(w[::-1][: a.size], 0.0) + parts[0][2] + parts[1][2]
    a.energy, a.weight = energy, a.weight + b.weight
    a.n_blocks, a.n_drawn = a.n_blocks + b.n_blocks, a.n_drawn + b.n_drawn
    a.spread = (a.spread + b.spread) / 2
    a.first_square += b.first_square
    a.merged = True
    a.windows = _joined_windows(a, a.windows + [replace(window) for window in b.windows])


def _joined_windows(a: Subspace, windows: list[Window]) -> list[Window]:
    """Fold the lightest windows into others until a new one has room, and open it."""
    while len(windows) > 11:
        turned = [a.turned(window) for window in windows]
        least = min(range(len(windows)), key=lambda i: windows[i].square)
        wider = [i for i in range(len(windows)) if turned[i] > turned[least]]
        folded = windows[least]
        if wider:
            into = windows[min(wider, key=lambda i: turned[i])]
            into.energy, into.square = into.energy + folded.energy, into.square + folded.square
        else:
            a.first_square += folded.square
        del windows[least]
    return [*windows, Window.at(a.V)]


def moved(block: Block, step: Array) -> Block:
    """Return rows about another shift: `step` is the old one minus the new one, in the scale of the rows."""
    if is_csr(block.rows):
        return weighed(block.rows, block.roots, -step if block.shift is None else block.shift - step)
    wide = cast(block.rows, "float64") + like(block.roots, step)[:, None] * step
    return weighed(cast(wide, str(block.rows.dtype).rpartition(".")[2]), block.roots)


def converted(block: Block, dtype: str) -> Block:
    """Return rows in a dtype, with the energies they have in it."""
    if str(block.rows.dtype).rpartition(".")[2] == dtype:
        return block
    rows = block.rows.astype(dtype) if is_csr(block.rows) else cast(block.rows, dtype)
    return weighed(rows, block.roots, block.shift)


def merge_heaps(a: Intake, b: Intake, n_rows: int, consume: Consumer) -> None:
    """Keep the heaviest rows of both; `b` begins at place `n_rows`. The others join the light ones."""
    rows = a.heavy + b.heavy
    energies = np.append(a.heavy_energies, b.heavy_energies)
    index = np.append(a.heavy_index, b.heavy_index + n_rows)
    order = np.lexsort((index, -energies))
    kept, dropped = order[: a.max_heavy], order[a.max_heavy :]
    a.heavy, a.heavy_energies, a.heavy_index = [rows[i] for i in kept], energies[kept], index[kept]
    for i in dropped[np.argsort(index[dropped], kind="stable")]:
        a.wait(rows[i], consume)
