"""Makes this directory's helper modules importable by name, and those of rings and grants."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
for directory in (*(HERE.parent / name for name in ("control_ring", "gnttab", "netback")), HERE):
    sys.path.insert(0, str(directory))
