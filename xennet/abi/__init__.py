"""Xen's public headers as Construct definitions: the only room that knows an offset or a flag.

One file per header (`netif`, `ring`, `grant_table`, `event_channel`, `xen`, `xs_wire`, `xenbus`),
with the headers' own names; the numbers of `xs_wire` can be had alone, in `xs_numbers`.  Beside the
definitions stand codecs for the hot layouts, derived from them by `codec.derive`, so that nothing
is written down twice.
"""

from __future__ import annotations

import sys

if sys.byteorder != "little":
    raise ImportError(
        "xennet needs a little-endian host: the shared structures of xen/io/netif.h have native"
        f" byte order, which is little on every Xen host, and sys.byteorder is {sys.byteorder!r}"
    )
