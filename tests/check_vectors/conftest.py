"""Makes the model of a transmit ring importable (tests run with importmode=importlib)."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "netback"))
