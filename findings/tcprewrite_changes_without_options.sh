#!/bin/sh
# tcprewrite with no option but the two files changes frames: bridge protocol, padded IPv4 and all IPv6.
#
# tcprewrite of tcpreplay 4.4.3 (Debian 12)
# Input: a capture of four valid frames: a bridge's spanning tree BPDU, as 802.3 with LLC (42 42 03); a TCP ACK of 54
#   bytes padded to the 60 of Ethernet; TCP over IPv6 between two unicast addresses; ARP.
# Seen: exit 0, and only ARP is as it was. The BPDU is taken for IPv4, for its LLC begins with a 4: over its octets go
#   46 as the total length, and a header checksum. The ACK's total length is 46 in place of 40, and its checksums fit
#   that: its padding has become six bytes of data. Both MAC addresses of the IPv6 frame are 33:33 and the last four
#   bytes of an IP address, as if destination and source were multicast.
# Why it surprises: nothing was to be changed, and the manual does not tell of it. --fixcsum, with which one completes
#   the blank checksums of a capture, comes with it. Upstream knows of IPv4 and IPv6, and later releases are mended.
# xennet: `pcap:FILE?csum=fix` completes blank checksums and leaves other bytes alone (docs/captures.md).
set -eu
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT; cd "$tmp"; chmod 755 .
# The subject is pinned; libraries that it needs come as the release has them.
apt-get download -qq -o APT::Sandbox::User=root tcpreplay=4.4.3-1 libdumbnet1 libpcap0.8 libdbus-1-3
for deb in *.deb; do dpkg -x "$deb" root; done
export LD_LIBRARY_PATH="$(dirname "$(find "$PWD/root" -name 'libpcap.so*' | head -n 1)")"
cat > capture.py <<'END'
import struct, sys

MACS = bytes.fromhex("00163e445566 00163e112233")
FRAMES = {
    "bpdu": bytes.fromhex("0180c2000000 00163e112233 0026 424203 0000000000 8000525400000001 00000000 8000525400000001")
    + bytes.fromhex("8001 0000 1400 0200 0f00") + bytes(8),
    "ack": MACS + bytes.fromhex("0800 45000028000140004006 26cd 0a000001 0a000002 00140050 00000001 00000001 50102000 7b6c0000")
    + bytes(6),
    "ipv6": MACS + bytes.fromhex("86dd 6000000000140640 fd00000000000000000000000000000a fd00000000000000000000000000000b")
    + bytes.fromhex("00140050 00000001 00000001 50102000 95580000"),
    "arp": bytes.fromhex("ffffffffffff 00163e112233 0806 0001 0800 06 04 0001 00163e112233 0a000001 000000000000 0a000002")
    + bytes(18),
}
if sys.argv[1] == "write":
    with open("in.pcap", "wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 1))
        for frame in FRAMES.values():
            file.write(struct.pack("<IIII", 1700000000, 0, len(frame), len(frame)) + frame)
else:
    data = open("out.pcap", "rb").read()[24:]
    for name, before in FRAMES.items():
        after, data = data[16 : 16 + len(before)], data[16 + len(before) :]
        pairs = zip(before, after)
        print(name, *(f"{at}:{old:02x}>{new:02x}" for at, (old, new) in enumerate(pairs) if old != new))
END
python3 capture.py write
root/usr/bin/tcprewrite -i in.pcap -o out.pcap
python3 capture.py compare | tee seen
cat > expected <<'END'
bpdu 16:03>00 17:00>2e 24:52>bd 25:54>8f
ack 17:28>2e 25:cd>c7 51:6c>66
ipv6 0:00>33 1:16>33 2:3e>00 3:44>00 4:55>00 5:66>0b 6:00>33 7:16>33 8:3e>00 9:11>00 10:22>00 11:33>0a
arp
END
diff expected seen
