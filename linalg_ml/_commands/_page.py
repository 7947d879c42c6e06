"""The page of the tour: one HTML file that loads nothing, readable on a phone, in the dark and on paper."""

import platform
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from html import escape
from importlib import metadata, resources

from .. import __version__
from .._core.threads import n_threads
from .._core.tour import TourStop
from ._text import duration, error, glued, ratio, reason, size

_HEADER = (
    "Capability",
    "Data",
    "Size",
    "Quality",
    "Our time",
    "Usual tool",
    "Its time",
    "Error we gave",
    "True error",
)
_LOADS_NOTHING = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_NUMBERS = (4, 6, 7, 8)  # columns set flush right
_INSTALL = 'pip install "linalg_ml[plot]"'


@dataclass(frozen=True)
class Visit:
    """What came of one stop: its result, its drawn picture, what it raised."""

    name: str  # the wing's, with a number from its second stop on: unique in the page
    stop: TourStop | None
    picture: str = ""  # a data URI
    problem: Exception | None = None


def page(visits: Sequence[Visit], *, pictures_missing: bool = False) -> str:
    """Return the page; `pictures_missing` adds how to get them."""
    hint = f'<p class="note">Pictures need matplotlib: <code>{escape(_INSTALL)}</code></p>'
    cards = "\n".join(map(_card, visits))
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="{_LOADS_NOTHING}">
<title>A tour of linalg_ml</title>
<style>
{resources.files(__package__).joinpath("_page.css").read_text("utf-8")}</style>
</head>
<body>
<header>
<h1>A tour of linalg_ml</h1>
<p>Every capability, run on real data on the machine named below, beside the tool one would otherwise use:
each answer came with an error, and the true error stands next to it.</p>
</header>
<main>
{_table(visits)}
{hint if pictures_missing else ""}
{cards}
</main>
<footer>{_footer()}</footer>
</body>
</html>
"""


def _footer() -> str:
    today = date.today().isoformat()
    threads = n_threads()
    facts = (
        f"linalg_ml {__version__}",
        f"NumPy {metadata.version('numpy')}",
        f"Python {platform.python_version()}",
        platform.machine(),
        f"{threads} thread{'s' if threads > 1 else ''}",
    )
    items = "".join(f"<li>{escape(fact)}</li>" for fact in facts)
    return f'<ul>{items}<li><time datetime="{today}">{today}</time></li></ul>'


# --- the table ----------------------------------------------------------------------------------------


def _table(visits: Sequence[Visit]) -> str:
    head = "".join(f'<th scope="col"{_flush(i)}>{title}</th>' for i, title in enumerate(_HEADER))
    body = "\n".join(f"<tr>{_row(visit)}</tr>" for visit in visits)
    return f"""<div class="scroll" role="region" aria-label="All results" tabindex="0">
<table>
<thead><tr>{head}</tr></thead>
<tbody>
{body}
</tbody>
</table>
</div>"""


def _flush(column: int) -> str:
    return ' class="number"' if column in _NUMBERS else ""


def _row(visit: Visit) -> str:
    first = f'<th scope="row"><a href="#{escape(visit.name)}">{escape(_title(visit))}</a></th>'
    if visit.stop is None:
        return f'{first}<td colspan="{len(_HEADER) - 1}">{_problem(visit)}</td>'
    cells = enumerate(_cells(visit.stop), start=1)
    return first + "".join(f"<td{_flush(i)}>{escape(cell)}</td>" for i, cell in cells)


def _cells(stop: TourStop) -> tuple[str, ...]:
    ours, theirs = duration(stop.seconds), duration(stop.usual_seconds)
    errors = error(stop.claimed_error), error(stop.true_error)
    return (glued(stop.data), glued(stop.size), glued(stop.quality), ours, stop.usual_tool, theirs, *errors)


def _title(visit: Visit) -> str:
    return visit.stop.capability if visit.stop else visit.name


def _problem(visit: Visit) -> str:
    if visit.problem is None:
        return ""
    what = "The picture failed" if visit.stop else "Failed"
    return f'<span class="problem">{what}: {escape(reason(visit.problem))}</span>'


# --- a card per capability ----------------------------------------------------------------------------


def _card(visit: Visit) -> str:
    return f"""<article id="{escape(visit.name)}">
<h2>{escape(_title(visit))}</h2>
{_story(visit.stop, visit) if visit.stop else f"<p>{_problem(visit)}</p>"}
</article>"""


def _story(stop: TourStop, visit: Visit) -> str:
    picture = _picture(stop, visit.picture) if visit.picture else ""
    problem = f"<p>{_problem(visit)}</p>" if visit.problem else ""
    return f"""<p class="purpose">{escape(stop.purpose)}</p>
<pre tabindex="0"><code>{escape(stop.code.strip())}</code></pre>
<p class="facts">{escape(glued(f"On {stop.data}, {stop.size}: {stop.quality}"))}</p>
{problem}<div class="{"evidence" if picture else "evidence plain"}">
{picture}<div class="pairs">
{"".join(map(_pair, _pairs(stop)))}</div>
</div>"""


def _picture(stop: TourStop, uri: str) -> str:
    caption = f"<figcaption>{escape(stop.caption)}</figcaption>" if stop.caption else ""
    return f'<figure><img src="{uri}" alt="Plot: {escape(stop.capability)}">{caption}</figure>\n'


@dataclass(frozen=True)
class _Pair:
    """Two numbers that one compares at a glance. The first is ours, or what the reader is after."""

    title: str
    note: str
    headline: str
    bars: tuple[tuple[str, float, str], tuple[str, float, str]]  # label, value, the value as text


def _pairs(stop: TourStop) -> Iterator[_Pair]:
    claimed, true = stop.claimed_error, stop.true_error
    yield _Pair(
        "Error",
        stop.error_name,
        "exact" if true == 0 else f"claim is {ratio(claimed / true)} the truth",
        (("claimed", claimed, error(claimed)), ("true", true, error(true))),
    )
    ours, theirs = stop.seconds, stop.usual_seconds
    yield _Pair(
        "Time",
        "",
        _compared(ours, theirs, "faster", "slower", "as fast"),
        (("linalg_ml", ours, duration(ours)), (stop.usual_tool, theirs, duration(theirs))),
    )
    after, before = stop.bytes_after, stop.bytes_before
    if after or before:
        yield _Pair(
            "Size",
            "",
            _compared(after, before, "smaller", "larger", "as large"),
            (("after", after, size(after)), ("before", before, size(before))),
        )


def _compared(ours: float, theirs: float, better: str, worse: str, same: str) -> str:
    if not (ours > 0 and theirs > 0):
        return ""
    if 0.95 < ours / theirs < 1.05:
        return same
    return f"{ratio(theirs / ours)} {better}" if ours < theirs else f"{ratio(ours / theirs)} {worse}"


def _pair(pair: _Pair) -> str:
    largest = max(value for _, value, _ in pair.bars) or 1.0
    headline = f'<p class="headline">{escape(pair.headline)}</p>' if pair.headline else ""
    note = f'<p class="measure">{_formula(pair.note)}</p>' if pair.note else ""
    rows = "".join(_bar(label, value / largest, text) for label, value, text in pair.bars)
    return f"<section><h3>{pair.title}</h3>{headline}{note}<dl>{rows}</dl></section>\n"


def _formula(text: str) -> str:
    """Set the index of a norm low: ‖A‖_F."""
    return re.sub(r"‖_(\w)", r"‖<sub>\1</sub>", escape(text))


def _bar(label: str, share: float, text: str) -> str:
    return f'<div style="--share:{100 * share:.1f}%"><dt>{escape(label)}</dt><dd>{escape(text)}</dd></div>'
