#!/bin/sh
# Two pcap writers round 999999.6 microseconds up to 1000000 and leave the second as it was.
#
# scapy 2.8.0, dpkt 1.9.8 (pip), tcpdump 4.99.3, capinfos 4.0.17 (Debian 12)
# Input: a nanosecond capture with one frame at 1700000000.999999600, read and written again as pcap by each library;
#   microseconds are what both write unless they are told otherwise.
# Seen: the field of microseconds is 1000000, which is none: tcpdump and capinfos print 1700000000.1000000. Whoever takes
#   that for a decimal number has the frame nine tenths of a second early, before frames that came before it.
# Why it surprises: it is one frame in two million of a capture in nanoseconds, and none in a test. The library that
#   wrote the field adds it up and reads the right time.
# xennet: records nanoseconds, reads such a field as the second that follows (test_pcap_port.py).
set -eu
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT; cd "$tmp"; chmod 755 .
python3 -m venv v && v/bin/pip install -qq scapy==2.8.0 dpkt==1.9.8
# The subjects are pinned; libraries that they need come as the release has them.
apt-get download -qq -o APT::Sandbox::User=root wireshark-common=4.0.17-0+deb12u3 \
  libwiretap13=4.0.17-0+deb12u3 libwsutil14=4.0.17-0+deb12u3 \
  tcpdump=4.99.3-1 libpcap0.8=1.10.3-1 libglib2.0-0 libdbus-1-3 libssl3
for deb in *.deb; do dpkg -x "$deb" root; done
v/bin/python - 2>/dev/null <<'END' | tee seen
import struct
import dpkt
from scapy.utils import rdpcap, wrpcap

with open("nano.pcap", "wb") as file:
    file.write(struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 262144, 1))
    file.write(struct.pack("<IIII", 1700000000, 999999600, 60, 60) + bytes(60))
wrpcap("scapy.pcap", rdpcap("nano.pcap"))
with open("nano.pcap", "rb") as source, open("dpkt.pcap", "wb") as file:
    writer = dpkt.pcap.Writer(file)
    for time, frame in dpkt.pcap.Reader(source):
        writer.writepkt(frame, time)
for name in "scapy.pcap", "dpkt.pcap":
    with open(name, "rb") as file:
        print(name, *struct.unpack_from("<II", file.read(), 24))
END
export LD_LIBRARY_PATH="$(dirname "$(find "$PWD/root" -name 'libwiretap.so*' | head -n 1)")" TZ=UTC
PATH="$PWD/root/usr/bin:$PATH"
user=$(id -un)  # as root tcpdump would become the user that the package makes when it is installed
for name in nano scapy dpkt; do
  echo "$name $(tcpdump -Z "$user" -ttnr $name.pcap 2>/dev/null | cut -d ' ' -f 1) $(capinfos -arT $name.pcap | cut -d ' ' -f 2)"
done | tee -a seen
cat > expected <<'END'
scapy.pcap 1700000000 1000000
dpkt.pcap 1700000000 1000000
nano 1700000000.999999 22:13:20.999999600
scapy 1700000000.1000000 22:13:20.1000000
dpkt 1700000000.1000000 22:13:20.1000000
END
diff expected seen
