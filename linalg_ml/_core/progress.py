"""One mechanism for progress: silent by default, a tqdm bar when `verbose`."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def progress(steps: Iterable[T], description: str, *, total: int | None = None, verbose: bool = False) -> Iterator[T]:
    """Iterate over `steps`; show a bar on stderr when `verbose`."""
    if not verbose:
        yield from steps
        return
    from tqdm.auto import tqdm

    yield from tqdm(steps, desc=description, total=total)
