"""Writing a file in one step: it is there whole, or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO
from uuid import uuid4


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[IO[bytes]]:
    """Open a draft beside `path` that takes its place when the block ends, and vanishes if it fails."""
    draft = f"{os.path.abspath(path)}.{uuid4().hex}"  # not of tempfile, which lets nobody else read it
    try:
        with open(draft, "xb") as file:
            yield file
        os.replace(draft, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(draft)
        raise
