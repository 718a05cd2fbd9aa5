#!/bin/sh
# Xen's vif-bridge: the MTU for a guest whose vif has a name of its own goes to a domain that does not exist.
#
# xen-utils-common and C xenstored 4.17.7 (Debian 12, 4.17.7+13-g2445b30a44-0+deb12u1)
# Input: two backends on a bridge of MTU 9000, both with `frontend`; the second one has `vifname`, as
#   `vif=["bridge=br0,vifname=web0"]` of xl makes it. `vif-bridge online` for each, in a network namespace.
# Seen: both scripts succeed, hotplug-status is connected, both interfaces have MTU 9000. The first guest finds 9000 in
#   device/vif/0/mtu. The second one keeps 1500, and the store has /local/domain/web0/device/vif/web0/mtu = 9000,
#   which nothing removes.
# Why it surprises: the frontend's path is in the backend's node `frontend`. The script makes it of the interface's
#   name, by cutting vif1.0 at the dot, after the interface got its other name.
# xennet: the emulated script writes to the path that the backend names (xennet/toolstack/hotplug.py); `xennet why
#   --store` passes over such a domain; docs/dumps.md, test_store_dump.py.
# Needs root and iproute2.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
tmp=$(mktemp -d); trap 'kill ${daemon:-} 2>/dev/null || :; rm -rf "$tmp"' EXIT; cd "$tmp"; chmod 755 .
. "$here/real_xenstored.inc"
apt-get download -qq -o APT::Sandbox::User=root xen-utils-common=$V
dpkg -x xen-utils-common_*.deb root
for domain in 1 2; do
  "$bin"/xenstore-write /local/domain/0/backend/vif/$domain/0/bridge br0 \
    /local/domain/0/backend/vif/$domain/0/frontend /local/domain/$domain/device/vif/0 \
    /local/domain/$domain/device/vif/0/mtu 1500
done
"$bin"/xenstore-write /local/domain/0/backend/vif/2/0/vifname web0
cat > hotplug <<'END'
set -eu
mount -t tmpfs none /var/log  # where the script has its own log
mkdir /var/log/xen
ip link add br0 type bridge
ip link set br0 mtu 9000
for domain in 1 2; do
  ip link add vif$domain.0 type veth peer name guest$domain
  XENBUS_PATH=/local/domain/0/backend/vif/$domain/0 vif=vif$domain.0 \
    bash root/etc/xen/scripts/vif-bridge online type_if=vif
done
for name in vif1.0 web0; do echo "$name $(cat /sys/class/net/$name/mtu)"; done
END
{
  PATH="$bin:$PATH" unshare --net --mount sh -c 'mount -t sysfs none /sys && exec sh hotplug'
  "$bin"/xenstore-ls -f /local/domain | grep -E 'mtu|hotplug-status'
} | sort | tee seen
cat > expected <<'END'
/local/domain/0/backend/vif/1/0/hotplug-status = "connected"
/local/domain/0/backend/vif/2/0/hotplug-status = "connected"
/local/domain/1/device/vif/0/mtu = "9000"
/local/domain/2/device/vif/0/mtu = "1500"
/local/domain/web0/device/vif/web0/mtu = "9000"
vif1.0 9000
web0 9000
END
diff expected seen
