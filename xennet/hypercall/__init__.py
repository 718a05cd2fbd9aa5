"""Hypercalls as a program makes them: a number, five registers, structures in its own memory.

Each file has one hypercall of xen/xen.h (``__HYPERVISOR_*``) as a function of its arguments; it
reads and writes the structures of the public headers in the program's memory and asks the machine
for everything else. `dispatch` finds them by their number, `start` has what a kernel finds when it
starts.
"""

from __future__ import annotations

from xennet.hypercall.caller import Caller, ProgramMemory
from xennet.hypercall.dispatch import hypercall
from xennet.hypercall.start import start_info

__all__ = ["Caller", "ProgramMemory", "hypercall", "start_info"]
