"""``python -m xennet`` is the command ``xennet``."""

from __future__ import annotations

import gc
import sys


def main() -> int:
    """Run the process's command line. Returns the exit code."""
    gc.disable()  # while the command is imported: xennet.cli.process_start
    from xennet.cli import main as command

    return command()


if __name__ == "__main__":
    sys.exit(main())
