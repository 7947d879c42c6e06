"""The order test: known answers, what it sees, what it must not see."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from streaming.streams import exact, lowrank_adv, powernorm, spiked

from linalg_ml.streaming import TopEigenvectorStream, top_eigenvector
from linalg_ml.streaming._order import OrderTest
from linalg_ml.streaming._subspace import Subspace


def pvalue(energies, cuts=()):
    test = OrderTest()
    for part in np.split(np.asarray(energies, np.float64), list(cuts)):
        test.add(part)
    return test.pvalue


@pytest.mark.parametrize(
    ("energies", "p"),
    [
        (1.0 + np.arange(4096), 1.548e-7),
        (1.0 + np.arange(38400), 1.72e-33),
        (1 + ((1103515245 * np.arange(4096) + 12345) % 65536) / 65536, 1.0),
    ],
)
def test_known_answers(energies, p):
    assert_allclose(pvalue(energies), p, rtol=5e-3)
    for cuts in (range(1, energies.size, 1000), range(0, energies.size, 128), [1, 2, 3]):
        assert pvalue(energies, cuts) == pvalue(energies)


def test_scale_changes_nothing():
    energies = 1.0 + np.arange(4096)
    test = OrderTest()
    test.add(energies[:2000])
    test.scale(2.0**-50)
    test.add(energies[2000:] * 2.0**-100)
    assert_allclose(test.pvalue, pvalue(energies), rtol=1e-6)


@pytest.mark.parametrize("energies", [np.ones(9000), np.zeros(9000), 1.0 + np.arange(15 * 128), np.ones(0)])
def test_nothing_to_see(energies):
    assert pvalue(energies) == 1


def test_zero_rows():
    energies = np.random.default_rng(0).random(20000) + 1
    energies[::2] = 0
    assert pvalue(energies) > 1e-3
    energies[:] = 1
    energies[:10000] = 0
    assert pvalue(energies) < 1e-6


def test_merged_streams():
    shuffled, up = np.random.default_rng(0).random(9000) + 1, 1.0 + np.arange(9000)
    tests = [OrderTest() for _ in range(3)]
    for test, energies in zip(tests, (shuffled, up, shuffled[::-1]), strict=True):
        test.add(energies)
    single = tests[1].pvalue
    for test in tests[1:]:
        tests[0].merge(test)
    assert_allclose(tests[0].pvalue, 3 * single, rtol=1e-12)


# --- false alarms ---------------------------------------------------------------------------------------


NORMS = {
    "gaussian": lambda rng, n: rng.chisquare(300, n),
    "pareto 1.5": lambda rng, n: rng.pareto(1.5, n) + 1,
    "pareto 0.8": lambda rng, n: rng.pareto(0.8, n) + 1,
    "rare": lambda rng, n: np.where(rng.random(n) < 1e-3, 1e6, 1.0) * rng.chisquare(30, n),
    "two kinds": lambda rng, n: np.where(rng.random(n) < 0.5, 0.0, rng.random(n)),
}


@pytest.mark.parametrize("norms", NORMS)
def test_no_false_alarm(norms):
    smallest = 1.0
    for seed in range(150):
        rng = np.random.default_rng(seed)
        smallest = min(smallest, pvalue(NORMS[norms](rng, int(rng.integers(2048, 60000)))))
    assert smallest > 1e-5  # of 150; an alarm is 1e-6


# --- power ----------------------------------------------------------------------------------------------


def orders(X, v):
    along = np.abs(X.astype(np.float64) @ v)
    norms = np.linalg.norm(X.astype(np.float64), axis=1)
    yield "random", np.arange(X.shape[0])
    yield "along up", np.argsort(along)
    yield "along down", np.argsort(-along)
    yield "norm up", np.argsort(norms)
    yield "norm down", np.argsort(-norms)


def check_orders(make, n, most, most_down):
    X = make(n)
    truth = exact(X)
    for name, order in orders(X, truth.vectors[0]):
        stream = TopEigenvectorStream(method="subspace", rng=0).update(X[order])
        if name == "random":
            result = stream.result()
            assert result.order_pvalue > 1e-4
            assert result.confidence == 0.95
        else:
            with pytest.warns(RuntimeWarning, match="order='arbitrary'"):
                result = stream.result()
            assert result.order_pvalue < 1e-6
            assert result.confidence is None
        assert truth.err(result.vector) <= (most_down if "down" in name or "norm" in name else most)


FAMILIES = {
    "spiked": lambda n: spiked(n, 300, 4, 7),
    "power norms": lambda n: powernorm(n, 300, 10, 8, 2),
}


@pytest.mark.filterwarnings("ignore:all rows kept aside")
@pytest.mark.parametrize("family", FAMILIES)
def test_sorted_short_streams(family):
    check_orders(FAMILIES[family], 8000, 6e-3, 6e-3)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:all rows kept aside")
@pytest.mark.parametrize("family", FAMILIES)
def test_sorted_streams(family):
    check_orders(FAMILIES[family], 40000, 1e-3, 1e-4)


@pytest.mark.slow
def test_directions_one_after_another():
    X = lowrank_adv(40000, 300, 5.6, 20, 11)
    truth = exact(X)
    with pytest.warns(RuntimeWarning, match="does not look shuffled"):
        default = top_eigenvector(X, rng=0)
    assert truth.err(default.vector) <= 1e-5
    assert default.confidence is None
    rescued = top_eigenvector(X, rng=0, order="arbitrary")
    assert truth.err(rescued.vector) <= min(1e-5, rescued.error)


def test_arbitrary_order_answers_with_the_better():
    X = lowrank_adv(21000, 250, 5.6, 20, 11)
    truth = exact(X)
    assert truth.err(top_eigenvector(X, rng=0, order="arbitrary").vector) <= 1e-5
    spike = spiked(6000, 250, 4, 3)
    assert top_eigenvector(spike, rng=0, order="arbitrary").method == "subspace"


def test_leading_direction_among_later_ones():
    # Forty directions one after another, the leading one early: the later ones have taken its place.
    for seed in range(3):
        rng = np.random.default_rng(seed)
        U = np.linalg.qr(rng.standard_normal((300, 41)))[0].T
        scales = np.where(np.arange(41) == 10, 2.0, 1.0)
        X = (scales[:, None, None] * rng.standard_normal((41, 500, 1)) * U[:, None, :]).reshape(-1, 300)
        X += 0.02 * rng.standard_normal(X.shape)
        with pytest.warns(RuntimeWarning, match="does not look shuffled"):
            default = top_eigenvector(X, rng=0)
        assert default.confidence is None
        assert exact(X).err(default.vector) > 0.5
        rescued = top_eigenvector(X, order="arbitrary", rng=0)
        assert rescued.method == "frequent-directions"
        assert rescued.confidence == 1
        assert exact(X).err(rescued.vector) <= min(1e-4, rescued.error)
        assert rescued.n_heavy == 0


@pytest.mark.filterwarnings("ignore:the stream does not look shuffled")
def test_frequent_directions_answer_where_they_certainly_hold_more(monkeypatch):
    X = lowrank_adv(21000, 250, 5.6, 20, 11)
    truth, answer = exact(X), Subspace.answer

    def astray(self, intake, k):
        found = answer(self, intake, k)
        found.components = truth.vectors[-k:].copy()  # a direction almost without energy
        return found

    monkeypatch.setattr(Subspace, "answer", astray)
    rescued = top_eigenvector(X, rng=0, order="arbitrary")
    assert rescued.method == "frequent-directions"
    assert truth.err(rescued.vector) <= min(1e-5, rescued.error)
    assert rescued.confidence == 1
    assert rescued.n_heavy == 0
    assert truth.err(top_eigenvector(X, rng=0).vector) > 0.99


def test_one_direction_beside_frequent_directions():
    X = spiked(900, 300, 20, 3)
    result = top_eigenvector(X, n_oversamples=0, order="arbitrary", rng=0)
    assert exact(X).err(result.vector) < 1e-2


def test_norms_are_those_about_the_shift():
    # A trend of the mean along the stream is seen in centred norms alone; an offset alone is not seen.
    X = spiked(6000, 250, 2, 3, np.float64)
    assert top_eigenvector(X + 100, center=True, rng=0).order_pvalue > 1e-4
    drift = X + 3 * np.linspace(0, 1, 6000)[:, None]
    with pytest.warns(RuntimeWarning, match="does not look shuffled"):
        assert top_eigenvector(drift, center=True, rng=0).order_pvalue < 1e-6


def test_weights_are_not_norms():
    X = spiked(6000, 250, 2, 3, np.float64)
    weighted = top_eigenvector(X, sample_weight=1.0 + np.arange(6000), max_heavy=0, rng=0)
    assert weighted.order_pvalue == top_eigenvector(X, max_heavy=0, rng=0).order_pvalue
