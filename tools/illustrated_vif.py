"""Writes docs/illustrated-vif.html: the life of one vif with every byte explained. With --check it
only compares, and exits with 1 if the page is another one.

The run is in tools/illustrated/recording.py, what is said of each field in explanations.toml beside
it.
"""

from __future__ import annotations

import sys
from pathlib import Path

from illustrated.page import build

PAGE = Path(__file__).resolve().parent.parent / "docs" / "illustrated-vif.html"


def main(arguments: list[str]) -> int:
    page = build()
    if "--check" in arguments:
        if not PAGE.exists() or PAGE.read_text() != page:
            print(f"{PAGE} is not up to date: python tools/illustrated_vif.py", file=sys.stderr)
            return 1
        return 0
    PAGE.write_text(page)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
