#!/bin/sh
# scapy gives a simple packet block the time at which it is read, and no bytes where there is no snap length.
#
# scapy 2.8.0 (pip)
# Input: two captures of one simple packet block of 60 bytes each: snap length 262144, and 0, which
#   means no limit.
# Seen: `time` is the moment of reading, another one each time (such a block has none; others say 0 or
#   None), and comes out as a packet time again when the packet is written. With snap length 0 the
#   raw packet is b"", its wirelen 60.
# Why it surprises: a time that looks real and is invented; all bytes gone without a word. The same snap
#   length does no harm to enhanced packet blocks.
# xennet: such packets have no time of their own (docs/captures.md); 0 is no limit.
set -eu
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT; cd "$tmp"
python3 -m venv v && v/bin/pip install -qq scapy==2.8.0
v/bin/python - 2>/dev/null <<'END' | tee seen
import struct, time
from scapy.utils import PcapReader, RawPcapReader

def block(kind, body):
    return struct.pack("<II", kind, len(body) + 12) + body + struct.pack("<I", len(body) + 12)

def capture(name, snap):
    with open(name, "wb") as file:
        file.write(block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1)))
        file.write(block(1, struct.pack("<HHI", 1, 0, snap)))
        file.write(block(3, struct.pack("<I", 60) + bytes(60)))
    return name

before = time.time()
for snap in 262144, 0:
    name = capture("simple.pcapng", snap)
    (raw, _), = RawPcapReader(name)
    packet, = PcapReader(name)
    print(snap, len(raw), packet.wirelen, before <= float(packet.time) <= time.time())
END
cat > expected <<'END'
262144 60 60 True
0 0 60 True
END
diff expected seen
