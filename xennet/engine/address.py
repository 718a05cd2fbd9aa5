"""Where memory lies in this process."""

from __future__ import annotations

import ctypes


class _Buffer(ctypes.Structure):
    """Py_buffer of the stable ABI (CPython 3.11 on), of which only the address is used."""

    _fields_ = (("buf", ctypes.c_void_p), ("rest", ctypes.c_byte * 136))


def address_of(memory: memoryview) -> int:
    """The address of the first byte of ``memory``, which may be read-only; 0 if it has none."""
    buffer = _Buffer()
    ctypes.pythonapi.PyObject_GetBuffer(ctypes.py_object(memory), ctypes.byref(buffer), 0)
    ctypes.pythonapi.PyBuffer_Release(ctypes.byref(buffer))
    return int(buffer.buf or 0)
