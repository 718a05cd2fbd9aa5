"""Say plainly when the Python that make found is too old."""

import sys

NEEDED = (3, 11)

if sys.version_info < NEEDED:
    sys.exit(
        f"xennet needs Python 3.11 or newer, {sys.executable} is {sys.version.split()[0]}; "
        "name another with: make PYTHON=python3.12 ..."
    )
