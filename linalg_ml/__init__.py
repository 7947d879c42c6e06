"""Numerical linear algebra for machine learning, every answer with its error.

The wings are imported when they are first used: ``linalg_ml.sketching.SRHT``.
"""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0.dev0"

__all__ = [
    "__version__",
    "config_context",
    "embedding",
    "get_config",
    "monarch",
    "set_config",
    "show_config",
    "sketching",
    "streaming",
]

if TYPE_CHECKING:  # one half for type checkers, editors and Sphinx …
    from . import embedding as embedding
    from . import monarch as monarch
    from . import sketching as sketching
    from . import streaming as streaming
    from ._core.kernels import config_context as config_context
    from ._core.kernels import get_config as get_config
    from ._core.kernels import set_config as set_config
    from ._core.kernels import show_config as show_config
else:  # … and one for Python, which loads a name when it is asked for
    _home = dict.fromkeys(("config_context", "get_config", "set_config", "show_config"), "_core.kernels")

    def __getattr__(name):
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module = import_module("." + _home.get(name, name), __name__)
        value = globals()[name] = getattr(module, name) if name in _home else module
        return value

    def __dir__():
        return sorted({*globals(), *__all__})
