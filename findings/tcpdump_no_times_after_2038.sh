#!/bin/sh
# tcpdump on a 64-bit machine cannot print a time after 19 January 2038, nor one before 1970.
#
# tcpdump 4.99.3 with libpcap 1.10.3 (Debian 12)
# Input: pcap files with frames at 2147483647 and 2147483648 s (pcap's field is unsigned and lasts until 2106),
#   and a pcapng file with one at -1000000000 s (if_tsoffset).
# Seen: "[Error converting time]" in place of the time, with -tt, -tttt and no option, from 2^31 on. Even
#   -tt, which converts nothing but prints seconds. libpcap itself hands out the right seconds.
# Why it surprises: time_t has 64 bits there, and capinfos and tcpdump's own -w have the time.
# xennet: records 1970 to 2106 in pcap and any time in pcapng; docs/captures.md says who prints what.
set -eu
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT; cd "$tmp"; chmod 755 .
# The subject is pinned; libraries that it needs come as the release has them.
apt-get download -qq -o APT::Sandbox::User=root tcpdump=4.99.3-1 libpcap0.8=1.10.3-1 libdbus-1-3 libssl3
for deb in *.deb; do dpkg -x "$deb" root; done
export LD_LIBRARY_PATH="$(dirname "$(find "$PWD/root" -name 'libpcap.so*' | head -n 1)")" TZ=UTC
python3 - <<'END'
import struct

def block(kind, body):
    return struct.pack("<II", kind, len(body) + 12) + body + struct.pack("<I", len(body) + 12)

for time in 2147483647, 2147483648:
    with open(f"{time}", "wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 1))
        file.write(struct.pack("<IIII", time, 5, 60, 60) + bytes(60))
with open("-1000000000", "wb") as file:
    file.write(block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1)))
    file.write(block(1, struct.pack("<HHIHHqHH", 1, 0, 262144, 14, 8, -1000000000, 0, 0)))
    file.write(block(6, struct.pack("<5I", 0, 0, 5, 60, 60) + bytes(60)))
END
user=$(id -un)  # as root it would become the user that the package makes when it is installed
for file in 2147483647 2147483648 -1000000000; do
  for option in -tt -tttt; do
    echo "$file $option $(root/usr/bin/tcpdump -Z "$user" $option -nr ./$file 2>/dev/null | head -n 1 | sed 's/  .*//')"
  done
done | tee seen
cat > expected <<'END'
2147483647 -tt 2147483647.000005
2147483647 -tttt 2038-01-19 03:14:07.000005
2147483648 -tt [Error converting time]
2147483648 -tttt [Error converting time]
-1000000000 -tt [Error converting time]
-1000000000 -tttt [Error converting time]
END
diff expected seen
