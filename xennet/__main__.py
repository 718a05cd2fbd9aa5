"""``python -m xennet`` is the command ``xennet``."""

from __future__ import annotations

import gc
import os
import sys
from contextlib import suppress

_STDERR = 2
_EXIT_INTERRUPTED = 130


def main() -> int:
    """Run the process's command line. Returns the exit code."""
    gc.disable()  # while the command is imported: xennet.cli.process_start
    try:
        from xennet.cli import main as command

        return command()
    except KeyboardInterrupt:  # the command is not there yet, or has ended
        with suppress(OSError):  # it may be closed
            os.write(_STDERR, b"xennet: interrupted\n")
        return _EXIT_INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
