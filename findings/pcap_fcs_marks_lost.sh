#!/bin/sh
# A pcap that says "Ethernet, frames end in an FCS" is unknown to scapy, and tcprewrite drops the saying.
#
# scapy 2.8.0 (pip), tcprewrite of tcpreplay 4.4.3 (Debian 12)
# Input: link type field 0x24000001: Ethernet (1), FCS present (bit 26), two 16-bit words of it (bits 28 to 31).
#   One frame of 64 bytes, its last four the FCS.
# Seen: scapy compares all 32 bits: unknown link type 603979777, the packet is Raw. `tcprewrite` with
#   nothing to change writes link type 1: the same 64 bytes are now a frame with four bytes more.
# Why it surprises: only the low 16 bits are the link type. libpcap and tcpdump read it as Ethernet, and
#   tcpdump -w keeps the bits.
# xennet: cuts the FCS off, counts it, and records without (docs/captures.md, test_pcap_port.py).
set -eu
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT; cd "$tmp"; chmod 755 .
python3 -m venv v && v/bin/pip install -qq scapy==2.8.0
# The subject is pinned; libraries that it needs come as the release has them.
apt-get download -qq -o APT::Sandbox::User=root tcpreplay=4.4.3-1 libdumbnet1 libpcap0.8 libdbus-1-3
for deb in *.deb; do dpkg -x "$deb" root; done
export LD_LIBRARY_PATH="$(dirname "$(find "$PWD/root" -name 'libpcap.so*' | head -n 1)")"
python3 - <<'END'
import struct

with open("fcs.pcap", "wb") as file:
    file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 0x24000001))
    file.write(struct.pack("<IIII", 1700000000, 0, 64, 64))
    file.write(bytes.fromhex("02000000000202000000000188b5") + bytes(50))
END
root/usr/bin/tcprewrite -i fcs.pcap -o rewritten.pcap
v/bin/python - 2>/dev/null <<'END' | tee seen
from scapy.all import PcapReader, RawPcapReader

for name in "fcs.pcap", "rewritten.pcap":
    packet, = PcapReader(name)
    print(name, hex(RawPcapReader(name).linktype), type(packet).__name__, len(packet))
END
cat > expected <<'END'
fcs.pcap 0x24000001 Raw 64
rewritten.pcap 0x1 Ether 64
END
diff expected seen
