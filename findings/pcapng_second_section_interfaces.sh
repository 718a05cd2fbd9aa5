#!/bin/sh
# Three pcapng readers number interfaces across sections; each section has its own.
#
# scapy 2.8.0, dpkt 1.9.8, pycapng 0.19.7 (pip)
# Input: two sections, as `cat one.pcapng two.pcapng` makes them. Interface 0 of the first has
#   nanoseconds (if_tsresol 9), interface 0 of the second the default, microseconds. One frame each,
#   both taken in the same second, 1700000000.
# Seen: the second frame is read with the resolution of the first section's interface: 1700000 seconds,
#   20 January 1970. No error, no warning. With another link type in the second section scapy also
#   dissects its frames as the first one's.
# Why it surprises: the format lets files be joined with cat, and a section header ends all that was said
#   before it. libpcap and Wireshark read the time right.
# xennet: reads the sections apart (tests/port/test_pcap_port.py, test_remarks.py).
set -eu
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT; cd "$tmp"
python3 -m venv v && v/bin/pip install -qq scapy==2.8.0 dpkt==1.9.8 pycapng==0.19.7
v/bin/python - 2>/dev/null <<'END' | tee seen
import struct

def block(kind, body):
    return struct.pack("<II", kind, len(body) + 12) + body + struct.pack("<I", len(body) + 12)

def section(time, *options):
    head = block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1))
    interface = block(1, struct.pack("<HHI", 1, 0, 262144) + b"".join(options))
    frame = struct.pack("<5I", 0, time >> 32, time & 0xFFFFFFFF, 60, 60) + bytes(60)
    return head + interface + block(6, frame)

nanoseconds = struct.pack("<HHBxxxHH", 9, 1, 9, 0, 0)
with open("joined.pcapng", "wb") as file:
    file.write(section(1700000000 * 10**9, nanoseconds) + section(1700000000 * 10**6))

import dpkt, pycapng
from scapy.utils import PcapReader
print("scapy", *(int(p.time) for p in PcapReader("joined.pcapng")))
print("dpkt", *(int(t) for t, _ in dpkt.pcapng.Reader(open("joined.pcapng", "rb"))))
print("pycapng", *(p.timestamp_ns // 10**9 for p in pycapng.read_packets("joined.pcapng")))
END
cat > expected <<'END'
scapy 1700000000 1700000
dpkt 1700000000 1700000
pycapng 1700000000 1700000
END
diff expected seen
