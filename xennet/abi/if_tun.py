"""linux/if_tun.h and the part of net/if.h that goes with it: what /dev/net/tun is asked for.

The names are those of the headers. TUNSETOFFLOAD takes its argument by value; TUNSETVNETHDRSZ and
TUNSETVNETLE take a pointer to an int, although all three are declared alike.
"""

from __future__ import annotations

from construct import Bytes, Int16ul, Padding, Struct

from xennet.abi.codec import derive

#: Bytes of the name of an interface, with the zero behind it.
IFNAMSIZ = 16

#: struct ifreq of 64-bit Linux, with the one member of its union that TUNSETIFF reads.
ifreq = "ifreq" / Struct(
    "ifr_name" / Bytes(IFNAMSIZ),
    "ifr_flags" / Int16ul,
    Padding(22),
)

IFREQ = derive(ifreq)

TUNSETIFF = 0x400454CA
TUNSETOFFLOAD = 0x400454D0
TUNSETVNETHDRSZ = 0x400454D8
TUNSETQUEUE = 0x400454D9
TUNSETVNETLE = 0x400454DC

# Flags of TUNSETIFF, and one of TUNSETQUEUE.
IFF_TAP = 0x0002
IFF_MULTI_QUEUE = 0x0100
IFF_DETACH_QUEUE = 0x0400
IFF_NO_PI = 0x1000
IFF_VNET_HDR = 0x4000
IFF_TUN_EXCL = 0x8000

# Arguments of TUNSETOFFLOAD: what frames that are read may need. All but 0 need TUN_F_CSUM.
TUN_F_CSUM = 0x01
TUN_F_TSO4 = 0x02
TUN_F_TSO6 = 0x04
TUN_F_TSO_ECN = 0x08
