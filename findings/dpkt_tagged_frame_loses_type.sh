#!/bin/sh
# dpkt writes the EtherType of a tagged frame as 0x8100 where it does not know the protocol.
#
# dpkt 1.9.8 (pip)
# Input: four valid frames: PTP (0x88f7) without and with an 802.1Q tag, a Per-VLAN spanning tree BPDU (802.3 length,
#   LLC, SNAP) with a tag, and PTP behind three tags.
# Seen: bytes(Ethernet(frame)) of the first is the frame. Of the tagged ones the type, or the length, behind the last
#   tag has become 0x8100, so that the data that follow are a tag now; of three tags two are gone.
# Why it surprises: nothing was assigned, and a tagged IP frame, which one tries, comes out right. A program that
#   changes an address and writes the frame sends another protocol. The object has the right type, in vlan_tags[-1].type.
# xennet: frames are bytes, and tags are read by its own kernels (xennet/offload/headers.py); dpkt is used for the layouts
#   of captures alone.
set -eu
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT; cd "$tmp"
python3 -m venv v && v/bin/pip install -qq dpkt==1.9.8
v/bin/python - <<'END' | tee seen
from dpkt.ethernet import Ethernet

MACS = "011b19000000 00163e112233"
PTP = "88f7 0002002c" + "00" * 40
FRAMES = {
    "ptp": PTP,
    "tagged ptp": "8100 0005" + PTP,
    "tagged bpdu": "8100 0005 0032 aaaa03 00000c 010b" + "00" * 42,
    "three tags": "8100 0005 8100 0006 8100 0007" + PTP,
}
for name, text in FRAMES.items():
    frame = bytes.fromhex(MACS + text)
    parsed = Ethernet(frame)
    tags = [f"{tag.id}:{tag.type:04x}" for tag in getattr(parsed, "vlan_tags", [])]
    print(f"{name}: {len(frame)} {frame[12:28].hex(' ', 2)} {tags}")
    print(f"written: {len(bytes(parsed))} {bytes(parsed)[12:28].hex(' ', 2)}")
END
cat > expected <<'END'
ptp: 58 88f7 0002 002c 0000 0000 0000 0000 0000 []
written: 58 88f7 0002 002c 0000 0000 0000 0000 0000
tagged ptp: 62 8100 0005 88f7 0002 002c 0000 0000 0000 ['5:88f7']
written: 62 8100 0005 8100 0002 002c 0000 0000 0000
tagged bpdu: 68 8100 0005 0032 aaaa 0300 000c 010b 0000 ['5:0032']
written: 68 8100 0005 8100 aaaa 0300 000c 010b 0000
three tags: 70 8100 0005 8100 0006 8100 0007 88f7 0002 ['7:88f7']
written: 62 8100 0007 8100 0002 002c 0000 0000 0000
END
diff expected seen
