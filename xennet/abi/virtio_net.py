"""linux/virtio_net.h: the header before each frame that a tap with IFF_VNET_HDR gives or takes.

Little-endian, after TUNSETVNETLE.  ``hdr_len`` is the linear part of the kernel's buffer, and no
length of headers: where they end, csum_start and the TCP header tell.
"""

from __future__ import annotations

from construct import Int8ul, Int16ul, Struct

from xennet.abi.codec import derive

#: struct virtio_net_hdr_mrg_rxbuf, with the members of its virtio_net_hdr as its own.
virtio_net_hdr_mrg_rxbuf = "virtio_net_hdr_mrg_rxbuf" / Struct(
    "flags" / Int8ul,
    "gso_type" / Int8ul,
    "hdr_len" / Int16ul,
    "gso_size" / Int16ul,
    "csum_start" / Int16ul,
    "csum_offset" / Int16ul,
    "num_buffers" / Int16ul,
)

VNET_HDR = derive(virtio_net_hdr_mrg_rxbuf)

# flags
#: The checksum field, csum_offset bytes behind csum_start, is to be filled in from csum_start on.
VIRTIO_NET_HDR_F_NEEDS_CSUM = 1
VIRTIO_NET_HDR_F_DATA_VALID = 2

# gso_type; ECN is a bit beside one of the others.
VIRTIO_NET_HDR_GSO_TCPV4 = 1
VIRTIO_NET_HDR_GSO_TCPV6 = 4
VIRTIO_NET_HDR_GSO_ECN = 0x80

# The same in 16-bit words, which kernels load and store. The first one has flags below gso_type.
VNET_WORDS = VNET_HDR.size // 2
VNET_H_hdr_len = VNET_HDR.offsets["hdr_len"] // 2
VNET_H_gso_size = VNET_HDR.offsets["gso_size"] // 2
VNET_H_csum_start = VNET_HDR.offsets["csum_start"] // 2
VNET_H_csum_offset = VNET_HDR.offsets["csum_offset"] // 2
if VNET_HDR.offsets["gso_type"] != VNET_HDR.offsets["flags"] + 1:
    raise AssertionError("flags and gso_type are not one 16-bit word")
