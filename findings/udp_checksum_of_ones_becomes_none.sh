#!/bin/sh
# Tools that complete checksums write 0 where UDP's is 0xffff: "has none", and over IPv6 not allowed.
#
# tcprewrite of tcpreplay 4.4.3, bittwiste 2.0 (Debian 12)
# Input: two valid datagrams whose UDP checksum is 0xffff, over IPv4 and over IPv6.
# Seen: `tcprewrite --fixcsum` writes 0 into both, `bittwiste -T ip` into that over IPv4 (it knows no IPv6). Both exit 0.
# Why it surprises: the sum is right, but where it comes out as 0 UDP sends all ones (RFC 768), for 0 says that there is
#   no checksum. A receiver drops such a datagram over IPv6 (RFC 8200, 8.1): one in 65,536 of a capture is lost, and in
#   captures of blank checksums nobody sees which.
# xennet: writes 0xffff (test_checksum.py), for `?csum=fix` as well.
set -eu
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT; cd "$tmp"; chmod 755 .
# The subjects are pinned; libraries that they need come as the release has them.
apt-get download -qq -o APT::Sandbox::User=root tcpreplay=4.4.3-1 bittwist=2.0-15 libdumbnet1 libpcap0.8 libdbus-1-3
for deb in *.deb; do dpkg -x "$deb" root; done
export LD_LIBRARY_PATH="$(dirname "$(find "$PWD/root" -name 'libpcap.so*' | head -n 1)")"
cat > capture.py <<'END'
import struct, sys

MACS = bytes.fromhex("00163e445566 00163e112233")
IP4 = bytes.fromhex("4500001e 00014000 401126cc 0a000001 0a000002")
IP6 = bytes.fromhex("60000000 000a1140 fd00000000000000000000000000000a fd00000000000000000000000000000b")

def total(data):
    words = sum(struct.unpack(f">{len(data) // 2}H", data))
    while words >> 16:
        words = (words & 0xFFFF) + (words >> 16)
    return words

def frames():
    for kind, header, addresses in ("0800", IP4, IP4[12:]), ("86dd", IP6, IP6[8:]):
        udp = struct.pack(">4H", 53, 53, 10, 0)
        data = struct.pack(">H", 0xFFFF - total(addresses + struct.pack(">2H", 17, 10) + udp))
        yield MACS + bytes.fromhex(kind) + header + udp[:6] + b"\xff\xff" + data

if sys.argv[1] == "write":
    with open("in.pcap", "wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 1))
        for frame in frames():
            file.write(struct.pack("<IIII", 1700000000, 0, len(frame), len(frame)) + frame)
else:
    data = open(sys.argv[1], "rb").read()[24:]
    fields = []
    for frame in frames():
        fields.append(data[16 + len(frame) - 4 :][:2].hex())
        data = data[16 + len(frame) :]
    print(sys.argv[1], *fields)
END
python3 capture.py write
root/usr/bin/tcprewrite --fixcsum -i in.pcap -o tcprewrite
root/usr/bin/bittwiste -I in.pcap -O bittwiste -T ip 2>/dev/null
for file in in.pcap tcprewrite bittwiste; do python3 capture.py $file; done | tee seen
cat > expected <<'END'
in.pcap ffff ffff
tcprewrite 0000 0000
bittwiste 0000 ffff
END
diff expected seen
