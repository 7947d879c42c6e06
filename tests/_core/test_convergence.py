"""The warning points at the line of whoever asked."""

import pytest
from sklearn.exceptions import ConvergenceWarning

from linalg_ml._core.convergence import warn_unconverged


def public():
    warn_unconverged("it went on", 2)


def test_points_at_the_caller():
    with pytest.warns(ConvergenceWarning, match="it went on") as caught:
        public()
    assert caught[0].filename == __file__
    assert caught[0].lineno == test_points_at_the_caller.__code__.co_firstlineno + 2
