#!/bin/sh
# editcap makes a verdict a queue number, and then cannot read its own file.
#
# editcap, mergecap and capinfos 4.0.17 (Debian 12)
# Input: a pcapng file with one enhanced packet block that has the option epb_verdict (7): a verdict of
#   Linux's XDP (first octet 2), XDP_PASS as 64-bit number. Captures of xdpdump look like this.
# Seen: `editcap in.pcapng out.pcapng` exits 0. In the copy the option has the number of epb_queue (6),
#   still 9 octets long; capinfos and editcap refuse that file, "packet block queue option length 9 is
#   not 4". mergecap writes the same.
# Why it surprises: a plain copy damages the file, and the frames are out of reach for the program that
#   wrote it. Other packet options (flags, drop count, identifier, queue) are copied right.
# xennet: reads both files, for options that concern neither comments nor the FCS are passed over, and
#   writes none (docs/captures.md, test_pcap_port.py).
set -eu
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT; cd "$tmp"; chmod 755 .
# The subject is pinned; libraries that it needs come as the release has them.
apt-get download -qq -o APT::Sandbox::User=root wireshark-common=4.0.17-0+deb12u3 \
  libwiretap13=4.0.17-0+deb12u3 libwsutil14=4.0.17-0+deb12u3 libglib2.0-0
for deb in *.deb; do dpkg -x "$deb" root; done
export LD_LIBRARY_PATH="$(dirname "$(find "$PWD/root" -name 'libwiretap.so*' | head -n 1)")"
PATH="$PWD/root/usr/bin:$PATH"
python3 - <<'END'
import struct

def block(kind, body):
    return struct.pack("<II", kind, len(body) + 12) + body + struct.pack("<I", len(body) + 12)

with open("in.pcapng", "wb") as file:
    file.write(block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1)))
    file.write(block(1, struct.pack("<HHI", 1, 0, 262144)))
    verdict = struct.pack("<HHBQxxxHH", 7, 9, 2, 2, 0, 0)
    file.write(block(6, struct.pack("<5I", 0, 0, 1, 60, 60) + b"\xaa" * 60 + verdict))
END
for tool in editcap mergecap; do
  [ "$tool" = editcap ] && editcap in.pcapng out.pcapng || mergecap -w out.pcapng in.pcapng
  python3 -c '
import struct
data = open("out.pcapng", "rb").read()
print("option %d of %d octets" % struct.unpack_from("<HH", data, data.rindex(b"\xaa") + 1))'
  capinfos -c out.pcapng 2>&1 | grep -o "packet block queue.*not 4"
done | tee seen
cat > expected <<'END'
option 6 of 9 octets
packet block queue option length 9 is not 4
option 6 of 9 octets
packet block queue option length 9 is not 4
END
diff expected seen
