#!/bin/sh
# pypacker: a new TTL overwrites four bytes of data in the later fragments of a datagram.
#
# pypacker 5.4 (pip)
# Input: an Ethernet frame with the second fragment of a UDP datagram over IPv4 (offset 8 bytes, 26 of data), and one
#   with a whole datagram whose checksum is 0, which says that it has none.
# Seen: with `ttl = 63` in place of 64, IP's checksum follows, and in the fragment four bytes of data become a length and
#   a checksum, for UDP is read there. The other datagram gets a checksum. As they were read both come out unchanged.
# Why it surprises: the field is in no sum but IP's. An address changed in the same way does the same, which is how
#   captures are prepared, and the first fragment, with its header, looks as it should.
# xennet: `pcap:FILE?csum=fix` leaves fragments, and UDP without a checksum, as they are (docs/captures.md).
set -eu
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT; cd "$tmp"
python3 -m venv v && v/bin/pip install -qq pypacker==5.4
v/bin/python - <<'END' | tee seen
from pypacker.layer12.ethernet import Ethernet
from pypacker.layer3.ip import IP

MACS = "00163e445566 00163e112233 0800 "
FRAMES = {
    "fragment": "4500002e 00090001 401166b3 0a000001 0a000002" + bytes(range(26)).hex(),
    "no checksum": "4500002e 00014000 401126bc 0a000001 0a000002 0035 0035 001a 0000" + bytes(range(18)).hex(),
}
for name, text in FRAMES.items():
    frame = bytes.fromhex(MACS + text)
    print(name, "unchanged" if Ethernet(frame).bin() == frame else "changed")
    packet = Ethernet(frame)
    packet[IP].ttl = 63
    pairs = enumerate(zip(frame, packet.bin()))
    print(*(f"{at}:{old:02x}>{new:02x}" for at, (old, new) in pairs if old != new))
END
cat > expected <<'END'
fragment unchanged
22:40>3f 24:66>67 38:04>00 39:05>1a 40:06>59 41:07>1a
no checksum unchanged
22:40>3f 24:26>27 40:00>a2 41:00>fc
END
diff expected seen
