"""Python's collector of garbage in a process that has just started.

Imports make a hundred thousand objects and no garbage. To look at them for cycles, again and again,
takes a tenth of a short run, so ``python -m xennet`` and the command ``xennet`` turn it off first.
"""

from __future__ import annotations

import gc


def collect_garbage() -> None:
    """Turn the collector on if it is off, and spare it what there is by now, which stays."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()
