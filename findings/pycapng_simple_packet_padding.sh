#!/bin/sh
# pycapng and fpcap count the padding of a simple packet block that was cut short as bytes of the frame.
#
# pycapng 0.19.7, fpcap 0.2.0 (pip)
# Input: a simple packet block of a 100-byte frame, cut at the snap length of 61: 61 bytes 0xAA and the
#   three bytes of padding (0) that bring the block to a multiple of four.
# Seen: 64 captured bytes, of which the last three are 0.
# Why it surprises: three bytes that were never on the wire. The block has no field for the captured
#   length; it is the lesser of the length on the wire and the interface's snap length, which both
#   libraries read.
# xennet: 61 bytes (tests/port/test_pcap_port.py).
set -eu
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT; cd "$tmp"
python3 -m venv v && v/bin/pip install -qq pycapng==0.19.7 fpcap==0.2.0
v/bin/python - 2>/dev/null <<'END' | tee seen
import struct, fpcap, pycapng

def block(kind, body):
    return struct.pack("<II", kind, len(body) + 12) + body + struct.pack("<I", len(body) + 12)

with open("cut.pcapng", "wb") as file:
    file.write(block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1)))
    file.write(block(1, struct.pack("<HHI", 1, 0, 61)))
    file.write(block(3, struct.pack("<I", 100) + b"\xaa" * 61 + bytes(3)))
packet, = pycapng.read_packets("cut.pcapng")
print("pycapng", len(packet.data), packet.data[-4:].hex())
packet, = fpcap.PacketReader("cut.pcapng")
print("fpcap", packet.capture_length)
END
cat > expected <<'END'
pycapng 64 aa000000
fpcap 64
END
diff expected seen
