"""The places where xnb's kernel ends: what a BackendPanic names.

Where it would panic (KASSERT, NULL dereference) or write past its arrays, the emulated one raises
:class:`~xennet.netback.defects.BackendPanic` instead, so that a fuzzer can go on and a test can
name what it met.
"""

from __future__ import annotations

# The places where the driver ends, by the defect rows that lead there (see the package's
# docstring); what a row does before it gets there differs, the place is the same.
OUT_OF_ORDER = "A3/A4"
MBUF_CHAIN_ENDS = "A1/A2"
TX_TABLE_TOO_SHORT = "A9"
COPY_FAILED = "A12/A13"
NEVER_RETURNS = "A14/A15"
HEADER_LEAVES_MBUF = "A17"
TABLE_WALK_LEAVES = "B2"
RX_TABLE_TOO_SHORT = "B8"
NO_IFNET = "C4"
#: No peer can cause it: the stack's own mbuf chain holds fewer bytes than its header says.
MBUF_CHAIN_LIES = "mbuf"
