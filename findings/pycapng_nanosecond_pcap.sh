#!/bin/sh
# pycapng reads the nanoseconds of a nanosecond pcap as microseconds.
#
# pycapng 0.19.7 (pip)
# Input: a pcap file with the nanosecond magic (0xA1B23C4D), one frame at 1700000000.900000000.
# Seen: timestamp_ns is 1700000900000000000: fifteen minutes late.
# Why it surprises: it takes the magic for what it is, a pcap file, and names the field timestamp_ns; a
#   capture of two seconds lasts a quarter of an hour, forth and back.
# xennet: both magics, in both byte orders; recordings have nanoseconds, so a .pcap of ours is one of
#   those files. docs/captures.md says which readers have it right.
set -eu
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT; cd "$tmp"
python3 -m venv v && v/bin/pip install -qq pycapng==0.19.7
v/bin/python - <<'END' | tee seen
import struct, pycapng

with open("nano.pcap", "wb") as file:
    file.write(struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 262144, 1))
    file.write(struct.pack("<IIII", 1700000000, 900000000, 60, 60) + bytes(60))
print(*(p.timestamp_ns for p in pycapng.read_packets("nano.pcap")))
END
[ "$(cat seen)" = 1700000900000000000 ]
