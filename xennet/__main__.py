"""``python -m xennet`` is the command ``xennet``."""

import sys

from xennet.cli import main

sys.exit(main())
