"""A dissector for Wireshark in Lua, generated from xennet.abi."""

from xennet.trace.dissector.generate import dissector_text, write_dissector

__all__ = ["dissector_text", "write_dissector"]
