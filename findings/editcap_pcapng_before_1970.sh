#!/bin/sh
# editcap copies a pcapng time before 1970 to a pcapng time half a million years from now.
#
# editcap, mergecap and capinfos 4.0.17 (Debian 12)
# Input: a pcapng file whose interface has if_tsoffset -100, one frame with time stamp 50 s: 31 December
#   1969, 23:59:10, as capinfos says.
# Seen: `editcap in.pcapng out.pcapng` and mergecap exit 0. The copy has no if_tsoffset, and the negative
#   time as an unsigned 64-bit number of microseconds: the year 586524.
# Why it surprises: same format, same program, nothing was to be changed; the offset that made the time
#   possible is taken into the time stamps, where it does not fit.
# xennet: writes if_tsoffset for such times and keeps it from section to section (docs/captures.md).
set -eu
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT; cd "$tmp"; chmod 755 .
# The subject is pinned; libraries that it needs come as the release has them.
apt-get download -qq -o APT::Sandbox::User=root wireshark-common=4.0.17-0+deb12u3 \
  libwiretap13=4.0.17-0+deb12u3 libwsutil14=4.0.17-0+deb12u3 libglib2.0-0
for deb in *.deb; do dpkg -x "$deb" root; done
export LD_LIBRARY_PATH="$(dirname "$(find "$PWD/root" -name 'libwiretap.so*' | head -n 1)")" TZ=UTC
PATH="$PWD/root/usr/bin:$PATH"
python3 - <<'END'
import struct

def block(kind, body):
    return struct.pack("<II", kind, len(body) + 12) + body + struct.pack("<I", len(body) + 12)

with open("in.pcapng", "wb") as file:
    file.write(block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1)))
    file.write(block(1, struct.pack("<HHIHHqHH", 1, 0, 262144, 14, 8, -100, 0, 0)))
    file.write(block(6, struct.pack("<5I", 0, 0, 50 * 10**6, 60, 60) + bytes(60)))
END
editcap in.pcapng editcap.pcapng
mergecap -w mergecap.pcapng in.pcapng
capinfos -arT in.pcapng editcap.pcapng mergecap.pcapng | tr '\t' ' ' | tee seen
cat > expected <<'END'
in.pcapng 1969-12-31 23:59:10.000000
editcap.pcapng 586524-01-19 08:00:59.551616
mergecap.pcapng 586524-01-19 08:00:59.551616
END
diff expected seen
