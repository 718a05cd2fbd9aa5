#!/bin/sh
# dpkt's pcapng reader takes every time by the first interface, and leaves simple packets out.
#
# dpkt 1.9.8 (pip)
# Input: one section with two interfaces, microseconds and nanoseconds (if_tsresol 9). One frame on each
#   at 1700000000 s, then a simple packet block.
# Seen: times 1700000000 and 1700000000000 (the year 55840); the third packet does not exist. No error.
# Why it surprises: every block names its interface, the reader does honour if_tsresol and if_tsoffset
#   (of the first), and mergecap makes such files of a microsecond and a nanosecond capture.
# xennet: uses dpkt's layouts and numbers, not its Reader (xennet/port/pcapng_format.py); each interface
#   has its own resolution, simple packets are carried.
set -eu
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT; cd "$tmp"
python3 -m venv v && v/bin/pip install -qq dpkt==1.9.8
v/bin/python - <<'END' | tee seen
import struct, dpkt

def block(kind, body):
    return struct.pack("<II", kind, len(body) + 12) + body + struct.pack("<I", len(body) + 12)

def packet(interface, time):
    return block(6, struct.pack("<5I", interface, time >> 32, time & 0xFFFFFFFF, 60, 60) + bytes(60))

with open("two.pcapng", "wb") as file:
    file.write(block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1)))
    file.write(block(1, struct.pack("<HHI", 1, 0, 262144)))
    file.write(block(1, struct.pack("<HHI", 1, 0, 262144) + struct.pack("<HHBxxxHH", 9, 1, 9, 0, 0)))
    file.write(packet(0, 1700000000 * 10**6) + packet(1, 1700000000 * 10**9))
    file.write(block(3, struct.pack("<I", 60) + bytes(60)))
print(*(int(time) for time, _ in dpkt.pcapng.Reader(open("two.pcapng", "rb"))))
END
[ "$(cat seen)" = "1700000000 1700000000000" ]
