"""Files that appear whole or not at all, whenever a process ends."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """An empty file beside ``path``, to be written in the block, which is ``path`` afterwards: what
    was there before stays until then, and for good if the block raises. Raises OSError."""
    descriptor, name = tempfile.mkstemp(prefix=".", suffix=".part", dir=path.parent)
    os.close(descriptor)
    part = Path(name)
    try:
        yield part
        part.replace(path)
    except BaseException:
        with suppress(OSError):
            part.unlink()
        raise


def write_whole(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path``; what was there before stays until then. Raises OSError."""
    with whole(path) as part:
        part.write_bytes(content)
