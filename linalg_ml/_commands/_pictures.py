"""Draw the pictures of the tour, each as text that a page can hold."""

import io
from base64 import b64encode
from collections.abc import Callable
from typing import Any

_LARGEST_SVG = 400_000  # bytes; a scatter of 10⁵ points is smaller as pixels
_STYLE = {
    "axes.axisbelow": True,
    "axes.edgecolor": "#5b6470",
    "axes.labelcolor": "#3b434d",
    "axes.prop_cycle": "cycler('color', ['#176b87', '#d9822b', '#7a5195', '#5a8f29', '#c03d55', '#6b7480'])",
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": "medium",
    "figure.facecolor": "none",  # the page puts a light panel behind
    "axes.facecolor": "none",
    "font.size": 10.5,
    "grid.color": "#d5dae0",
    "image.cmap": "viridis",
    "legend.frameon": False,
    "savefig.facecolor": "none",
    "xtick.color": "#5b6470",
    "ytick.color": "#5b6470",
}


def can_draw() -> bool:
    """Tell whether matplotlib, which is optional, can be imported."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        return False
    return True


def draw(picture: Callable[[Any], None]) -> str:
    """Draw on a new figure; return it as a data URI, whose ids cannot clash with those of another picture."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure  # without pyplot: no window, no global state

    with rc_context(_STYLE):
        figure = Figure(figsize=(5.0, 3.4), layout="constrained")
        picture(figure)
        data, kind = _saved(figure, format="svg", metadata={"Date": None, "Creator": None}), "svg+xml"
        if len(data) > _LARGEST_SVG:
            data, kind = _saved(figure, format="png", dpi=192), "png"
    return f"data:image/{kind};base64,{b64encode(data).decode()}"


def _saved(figure: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, **options)
    return file.getvalue()
