"""Numbers, reasons and tables as a person reads them.

A number and its unit are joined by a no-break space, so that neither a terminal nor a page parts them.
"""

import math
import re
import textwrap
from collections.abc import Sequence

_GAP = "  "
_UNITS_OF_TIME = ((1e-6, "µs"), (1e-3, "ms"), (1.0, "s"))
_UNITS_OF_SIZE = ((1.0, "B"), (1e3, "kB"), (1e6, "MB"), (1e9, "GB"), (1e12, "TB"))

# --- numbers ------------------------------------------------------------------------------------------


def _three_digits(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 999.5 else f"{value:#.3g}".rstrip(".")


def _scaled(value: float, units: Sequence[tuple[float, str]]) -> str:
    """Write with the largest unit that is not above the rounded value: 999.9 µs is 1.00 ms."""
    if not math.isfinite(value):
        return str(value)
    rounded = float(f"{value:.2e}")
    scale, unit = next((item for item in reversed(units) if rounded >= item[0]), units[0])
    return f"{_three_digits(rounded / scale)}\xa0{unit}"


def duration(seconds: float) -> str:
    r"""Write a time.

    >>> duration(0.0123), duration(4.2e-7), duration(75.04)
    ('12.3\xa0ms', '0.420\xa0µs', '75.0\xa0s')
    """
    return _scaled(seconds, _UNITS_OF_TIME)


def size(n_bytes: int) -> str:
    r"""Write a number of bytes, in powers of 1000.

    >>> size(512), size(919_888), size(3_200_000_000)
    ('512\xa0B', '920\xa0kB', '3.20\xa0GB')
    """
    return f"{n_bytes}\xa0B" if 0 <= n_bytes < 1000 else _scaled(n_bytes, _UNITS_OF_SIZE)


def error(value: float) -> str:
    r"""Write a relative error: percent from a tenth of a per mille to ten, else with its exponent.

    >>> error(0.0321), error(2.2e-16), error(0.0), error(31.4)
    ('3.21\xa0%', '2.20e-16', '0', '31.4')
    """
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    rounded = float(f"{value:.2e}")
    if 1e-4 <= rounded < 10:
        return f"{_three_digits(100 * rounded)}\xa0%"
    return f"{rounded:.2e}" if rounded < 1e-4 or rounded >= 1000 else _three_digits(rounded)


def ratio(value: float) -> str:
    """Write a ratio with two digits.

    >>> print(ratio(1.072), ratio(8.44), ratio(31.4), ratio(1260.0))
    1.1× 8.4× 31× 1,300×
    """
    rounded = float(f"{value:.1e}")
    return f"{rounded:,.0f}×" if rounded >= 10 else f"{rounded:#.2g}×"


def glued(text: str) -> str:
    """Keep "1797 × 64" and "3.2 %" on one line."""
    return re.sub(r"(?<=\d) (?=[%×])|(?<=×) (?=\d)", "\xa0", text)


def reason(problem: BaseException) -> str:
    """Say in one line why something failed; compilers and solvers write pages."""
    message = textwrap.shorten(str(problem), 200, placeholder=" …")
    return f"{type(problem).__name__}: {message}" if message else type(problem).__name__


# --- tables -------------------------------------------------------------------------------------------


def table(header: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> str:
    """Lay out a table of at most `width` columns; what is too long is wrapped in its cell.

    A row with fewer cells than the header has its last one reach to the right edge. Where not even the
    longest words fit side by side, each row becomes a list.

    >>> print(table(["tool", "result"], [["svd", "exact but slow"], ["srht", "fast"]], 14))
    tool  result
    ----  --------
    svd   exact
          but slow
    <BLANKLINE>
    srht  fast
    """
    full = [header, *(row for row in rows if len(row) == len(header))]
    room = width - len(_GAP) * (len(header) - 1)
    widths = _widths(list(zip(*full, strict=True)), room)
    if sum(widths) > room:
        return "\n\n".join(_list(header, row, width) for row in rows).replace("\xa0", " ")
    rule = _GAP.join("-" * width for width in widths)
    blocks = [_lines(row, _spanned(widths, len(row))) for row in rows]
    between = "\n\n" if any("\n" in block for block in blocks) else "\n"
    return "\n".join([_lines(header, widths), rule, between.join(blocks)]).replace("\xa0", " ")


def _widths(columns: Sequence[Sequence[str]], room: int) -> list[int]:
    """Narrow columns until all fit or words would break: each time the one that gets the fewest lines."""
    lengths = [max(map(len, column)) for column in columns]
    longest_words = [max(len(word) for cell in column for word in cell.split(" ")) for column in columns]
    widths = list(lengths)
    while sum(widths) > room and (wide := [i for i, width in enumerate(widths) if width > longest_words[i]]):
        cheapest = min(wide, key=lambda i: lengths[i] / (widths[i] - 1))
        widths[cheapest] -= 1
    return widths


def _spanned(widths: list[int], n_cells: int) -> list[int]:
    rest = widths[n_cells - 1 :]
    return [*widths[: n_cells - 1], sum(rest) + len(_GAP) * (len(rest) - 1)]


def _lines(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = [textwrap.wrap(cell, width) or [""] for cell, width in zip(row, widths, strict=True)]
    height = max(map(len, cells))
    padded = [[*cell, *[""] * (height - len(cell))] for cell in cells]
    lines = zip(*padded, strict=True)
    return "\n".join(_GAP.join(map(str.ljust, line, widths)).rstrip() for line in lines)


def _list(header: Sequence[str], row: Sequence[str], width: int) -> str:
    """Write a row as its first cell, then an indented line or more for each other one."""
    labels = header[1:] if len(row) == len(header) else [""]
    indent = max(map(len, labels)) + len(_GAP) if any(labels) else 0
    lines = [row[0]]
    for label, cell in zip(labels, row[1:], strict=True):
        wrapped = textwrap.wrap(cell, max(width - indent - len(_GAP), 1)) or [""]
        starts = [label, *[""] * (len(wrapped) - 1)]
        lines += [f"{_GAP}{start:<{indent}}{line}" for start, line in zip(starts, wrapped, strict=True)]
    return "\n".join(lines)
