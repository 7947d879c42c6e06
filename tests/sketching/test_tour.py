"""The wing's stops on the tour, on the small data that is there without Pillow."""

import numpy as np
import pytest

from linalg_ml import sketching
from linalg_ml.sketching import _tour


@pytest.fixture(scope="module")
def stops():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sklearn.datasets.load_sample_image", _no_pillow)
        found = _tour.stop()
    return found if isinstance(found, list | tuple) else [found]


def _no_pillow(name):
    raise ImportError("Pillow")


def test_claims_cover_the_truth(stops):
    for stop in stops:
        assert 0 <= stop.true_error <= stop.claimed_error
        assert "digits" in stop.data


def test_the_code_runs_as_it_is_shown(stops):
    rng = np.random.default_rng(0)
    for stop in stops:
        assert stop.code.count("\n") < 5
        A = rng.standard_normal((3000, 20))
        exec(stop.code, {"A": A, "b": A @ np.ones(20), "linalg_ml": __import__("linalg_ml"), "sketching": sketching})


def test_the_pictures_can_be_drawn(stops):
    figure = pytest.importorskip("matplotlib.figure")
    for stop in stops:
        drawn = figure.Figure()
        stop.picture(drawn)
        assert drawn.get_axes() or any(part.get_axes() for part in drawn.subfigs)
