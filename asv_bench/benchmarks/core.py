"""Ground floor: random words, what a kernel call costs before it does any work, and what an import costs."""

from linalg_ml._core.jit import jit
from linalg_ml._core.random import Stream, words
from linalg_ml._core.threads import launch


@jit
def _nothing(start, stop):
    """Do nothing, so that only the launch is left to measure."""


class Words:
    """Draw 2²² random words: one for each of many rows, and many for each of few."""

    params = (1, 64)
    param_names = ("count",)

    def setup(self, count):
        self.ids = range(2**22 // count)
        self.time_words(count)

    def time_words(self, count):
        words(7, Stream.SIGNS, self.ids, count)


class Overhead:
    """A hundred calls: one alone takes microseconds, too little for the single run of ``--quick``."""

    def setup(self):
        self.time_100_small_kernels()
        self.time_100_launches_on_all_threads()

    def time_100_small_kernels(self):
        for _ in range(100):
            words(7, Stream.SIGNS, range(1))

    def time_100_launches_on_all_threads(self):
        for _ in range(100):
            launch(_nothing, 2**20, cost=1e9)


class Import:
    """What an import adds to NumPy's, each time in a fresh interpreter."""

    def timeraw_linalg_ml(self):
        return "import linalg_ml", "import numpy"

    def timeraw_sketching(self):
        return "from linalg_ml.sketching import SRHT", "import numpy"
