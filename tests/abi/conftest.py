"""Lets the tests of this directory import its helper `abi_c_program`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
