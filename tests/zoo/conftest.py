"""The zoo is imported by its name, by tests and by tools alike, and the inputs of xnb's rows."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "netback_xnb")]
