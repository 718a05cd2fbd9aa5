"""The directory for what is made on the user's machine and kept: compiled kernels,
the preload shim, a QEMU."""

from __future__ import annotations

import os
from pathlib import Path

#: The environment variable that names the directory.
VARIABLE = "XENNET_CACHE_DIR"


def directory() -> Path:
    """The directory: that named by XENNET_CACHE_DIR, else ``xennet`` in the user's cache directory
    (XDG_CACHE_HOME, ``~/.cache``). It need not exist."""
    chosen = os.environ.get(VARIABLE)
    if chosen:
        return Path(chosen)
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(home) / "xennet"
