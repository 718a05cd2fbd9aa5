#!/bin/sh
# Three pcapng readers leave if_tsoffset out: times are off by it, silently.
#
# scapy 2.8.0, python-pcapng 2.1.1, pycapng 0.19.7 (pip)
# Input: an interface with if_tsoffset 1700000000, a frame with time stamp 123456 microseconds.
# Seen: 0 s, in 1970. python-pcapng even shows the option in the interface's options.
# Why it surprises: all three honour if_tsresol, its neighbour. It is the only way to say a time before
#   1970, which they read as a time after it.
# xennet: reads it and writes it for times before 1970 (docs/captures.md), and libpcap, Wireshark and
#   dpkt read that.
set -eu
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT; cd "$tmp"
python3 -m venv v && v/bin/pip install -qq scapy==2.8.0 python-pcapng==2.1.1 pycapng==0.19.7
v/bin/python - 2>/dev/null <<'END' | tee seen
import struct, pcapng, pycapng
from scapy.utils import PcapReader

def block(kind, body):
    return struct.pack("<II", kind, len(body) + 12) + body + struct.pack("<I", len(body) + 12)

with open("offset.pcapng", "wb") as file:
    file.write(block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1)))
    option = struct.pack("<HHqHH", 14, 8, 1700000000, 0, 0)
    file.write(block(1, struct.pack("<HHI", 1, 0, 262144) + option))
    file.write(block(6, struct.pack("<5I", 0, 0, 123456, 60, 60) + bytes(60)))
print("scapy", *(p.time for p in PcapReader("offset.pcapng")))
blocks = list(pcapng.FileScanner(open("offset.pcapng", "rb")))
print("python-pcapng", blocks[2].timestamp, "offset", blocks[1].options["if_tsoffset"])
print("pycapng", *(p.timestamp_ns for p in pycapng.read_packets("offset.pcapng")))
END
cat > expected <<'END'
scapy 0.123456
python-pcapng 0.123456 offset 1700000000
pycapng 123456000
END
diff expected seen
