#!/bin/sh
# Xen's vif-nat: a vif whose name is the beginning of another's never connects, and the script says that all is well.
#
# xen-utils-common and C xenstored 4.17.7 (Debian 12, 4.17.7+13-g2445b30a44-0+deb12u1)
# Input: two guests; xl's `vifname` calls their vifs web2 and web. `vif-nat online` for each in that order, in a network
#   namespace.
# Seen: both exit 0. web2 has its address, and hotplug-status is connected. web has no address, is down, and
#   hotplug-status does not exist: the toolstack waits for it until it gives up. Nothing is in the script's log.
# Why it surprises: the same two guests work in the other order. The script asks whether the interface has a route by
#   looking for the text "dev web" among all routes, finds "dev web2", and ends without an answer. Names as netback
#   gives them do it too, vif1.1 after vif1.10.
# xennet: `xennet why` says that no script was run or that it gave no answer (docs/dumps.md); `xennet lifecycle
#   no-script-answer` plays what follows.
# Needs root and iproute2.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
tmp=$(mktemp -d); trap 'kill ${daemon:-} 2>/dev/null || :; rm -rf "$tmp"' EXIT; cd "$tmp"; chmod 755 .
. "$here/real_xenstored.inc"
apt-get download -qq -o APT::Sandbox::User=root xen-utils-common=$V
dpkg -x xen-utils-common_*.deb root
backends=/local/domain/0/backend/vif
"$bin"/xenstore-write $backends/1/0/frontend-id 1 $backends/1/0/handle 0 $backends/1/0/vifname web \
  $backends/2/0/frontend-id 2 $backends/2/0/handle 0 $backends/2/0/vifname web2
cat > hotplug <<'END'
mount -t tmpfs none /var/log  # where the script has its own log
mkdir /var/log/xen
for domain in 2 1; do
  ip link add vif$domain.0 type veth peer name guest$domain
  XENBUS_PATH=/local/domain/0/backend/vif/$domain/0 vif=vif$domain.0 dhcp=no \
    bash root/etc/xen/scripts/vif-nat online type_if=vif
  echo "domain $domain: exit $?"
done
for name in web2 web; do echo "$name: $(ip -4 -br addr show dev $name | awk 'END { print (NF > 2 ? $3 : "no address") }')"; done
wc -c < /var/log/xen/xen-hotplug.log
END
{
  PATH="$bin:$PATH" unshare --net --mount sh hotplug
  "$bin"/xenstore-ls -f $backends | grep hotplug-status
} | tee seen
cat > expected <<'END'
domain 2: exit 0
domain 1: exit 0
web2: 10.0.2.128/32
web: no address
0
/local/domain/0/backend/vif/2/0/hotplug-status = "connected"
END
diff expected seen
