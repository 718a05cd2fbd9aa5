"""Makes this directory's helper modules importable by name, and those of the control ring."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
for directory in (HERE.parent / "control_ring", HERE.parent / "gnttab", HERE):
    sys.path.insert(0, str(directory))
