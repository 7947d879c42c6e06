"""The one progress mechanism."""

import pytest

from linalg_ml._core.progress import progress


@pytest.mark.parametrize("verbose", [False, True])
def test_steps_pass_through(verbose, capfd):
    assert list(progress(iter("abc"), "spelling", total=3, verbose=verbose)) == ["a", "b", "c"]
    out, err = capfd.readouterr()
    assert out == ""
    assert ("spelling" in err) == verbose
    assert ("3/3" in err) == verbose


def test_it_is_lazy():
    steps = iter([1, 2, 3])
    shown = progress(steps, "counting")
    assert next(shown) == 1
    assert next(steps) == 2


def test_errors_pass_through():
    def broken():
        yield 1
        raise KeyError("step 2")

    with pytest.raises(KeyError, match="step 2"):
        list(progress(broken(), "failing", verbose=True))
