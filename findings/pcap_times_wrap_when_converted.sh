#!/bin/sh
# Converting pcapng to pcap, editcap and tcpdump move a time that pcap cannot hold by 136 years, silently.
#
# editcap and capinfos 4.0.17, tcpdump 4.99.3 (Debian 12)
# Input: pcapng files with one frame each, in 2200 and (if_tsoffset) on 31 December 1969.
# Seen: `editcap -F pcap` and `tcpdump -w` exit 0 and say nothing; their files tell 2063 and 2106.
# Why it surprises: the tool has the right time in its hand (capinfos shows it), and editcap does refuse
#   other things that pcap cannot hold, such as two link types.
# xennet: `record:x.pcap` of such a time ends the run with an error that names .pcapng.
set -eu
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT; cd "$tmp"; chmod 755 .
# The subjects are pinned; libraries that they need come as the release has them.
apt-get download -qq -o APT::Sandbox::User=root wireshark-common=4.0.17-0+deb12u3 \
  libwiretap13=4.0.17-0+deb12u3 libwsutil14=4.0.17-0+deb12u3 \
  tcpdump=4.99.3-1 libpcap0.8=1.10.3-1 libglib2.0-0 libdbus-1-3 libssl3
for deb in *.deb; do dpkg -x "$deb" root; done
export LD_LIBRARY_PATH="$(dirname "$(find "$PWD/root" -name 'libwiretap.so*' | head -n 1)")" TZ=UTC
PATH="$PWD/root/usr/bin:$PATH"
python3 - <<'END'
import struct

def block(kind, body):
    return struct.pack("<II", kind, len(body) + 12) + body + struct.pack("<I", len(body) + 12)

for year, offset, time in ("2200", 0, 7258118400 * 10**6), ("1969", -100, 50 * 10**6):
    with open(f"{year}.pcapng", "wb") as file:
        file.write(block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1)))
        file.write(block(1, struct.pack("<HHIHHqHH", 1, 0, 262144, 14, 8, offset, 0, 0)))
        file.write(block(6, struct.pack("<5I", 0, time >> 32, time & 0xFFFFFFFF, 60, 60) + bytes(60)))
END
user=$(id -un)  # as root tcpdump would become the user that the package makes when it is installed
for year in 2200 1969; do
  editcap -F pcap $year.pcapng editcap-$year.pcap
  tcpdump -Z "$user" -r $year.pcapng -w tcpdump-$year.pcap 2>/dev/null
  capinfos -arT $year.pcapng editcap-$year.pcap tcpdump-$year.pcap
done | tr '\t' ' ' | tee seen
cat > expected <<'END'
2200.pcapng 2200-01-01 00:00:00.000000
editcap-2200.pcap 2063-11-24 17:31:44.000000
tcpdump-2200.pcap 2063-11-24 17:31:44.000000
1969.pcapng 1969-12-31 23:59:10.000000
editcap-1969.pcap 2106-02-07 06:27:26.000000
tcpdump-1969.pcap 2106-02-07 06:27:26.000000
END
diff expected seen
