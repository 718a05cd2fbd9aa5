"""Makes this directory's helper module importable; without numba there is nothing to compare."""

import sys
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "netback"))
sys.path.insert(0, str(Path(__file__).parents[1] / "golden"))
sys.path.insert(0, str(Path(__file__).parents[1] / "netmap"))

_BOTH = ["test_equality.py", "test_fast.py", "test_native_equality.py"]
collect_ignore = [] if find_spec("numba") else _BOTH
