"""What spares a command time at its start.

Imports make a hundred thousand objects and no garbage. To look at them for cycles, again and again,
takes a tenth of a short run, so ``python -m xennet`` and the command ``xennet`` turn the collector
off first.
"""

from __future__ import annotations

import gc
import os

#: The environment variable by which OpenBLAS is told its number of threads.
_THREADS = "OPENBLAS_NUM_THREADS"


def collect_garbage() -> None:
    """Turn the collector on if it is off, and spare it what there is by now, which stays."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()


def load_engine() -> None:
    """Load the engine in force. Raises EngineError.

    With numpy comes OpenBLAS, which starts a thread for each processor if nobody says how many; no
    kernel has work for them.
    """
    from xennet.engine.choice import current

    if _THREADS in os.environ:
        current()
        return
    os.environ[_THREADS] = "1"
    try:
        current()
    finally:
        del os.environ[_THREADS]
