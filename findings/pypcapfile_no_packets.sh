#!/bin/sh
# pypcapfile reads big-endian captures, and those with an empty packet, as captures without packets.
#
# pypcapfile 0.12.0 (pip)
# Input: the same frame in a little-endian and in a big-endian pcap file, and in a little-endian one behind
#   a packet of zero bytes.
# Seen: 1, 0 and 0 packets. load_savefile returns as ever; `byteorder` of the second is rightly "big".
# Why it surprises: both files are valid, the byte order is recognised, and an empty list is
#   also what a capture has in which nothing happened.
# xennet: either byte order; an empty packet is counted (skipped_empty) and the next one is read.
set -eu
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT; cd "$tmp"
python3 -m venv v && v/bin/pip install -qq pypcapfile==0.12.0
v/bin/python - 2>/dev/null <<'END' | tee seen
import struct
from pcapfile import savefile

def capture(order, *frames):
    with open("one.pcap", "wb") as file:
        file.write(struct.pack(order + "IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 1))
        for frame in frames:
            file.write(struct.pack(order + "IIII", 1700000000, 0, len(frame), len(frame)) + frame)
    with open("one.pcap", "rb") as file:
        return savefile.load_savefile(file)

for name, read in (
    ("little", capture("<", bytes(60))),
    ("big", capture(">", bytes(60))),
    ("empty first", capture("<", b"", bytes(60))),
):
    print(name, read.header.byteorder, len(read.packets))
END
cat > expected <<'END'
little b'little' 1
big b'big' 0
empty first b'little' 0
END
diff expected seen
