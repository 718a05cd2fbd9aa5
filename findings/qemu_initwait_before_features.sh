#!/bin/sh
# QEMU's network backend says that it is ready before it says what it can do.
#
# qemu-system-xen 10.0.2 (backports of Debian 12) with the C xenstored 4.17.7
# Input: `-device xen-net-device`, which makes the nodes of a new device while the guest may be up.
# Seen: `state` is written once, with 2 (InitWait), and then `feature-rx-copy`.
# Why it surprises: a frontend reads the features when it sees InitWait. Linux (xennet_connect) reads
#   feature-rx-copy, finds nothing, refuses with ENODEV and does not look again. In the field a domain is
#   started after device-model/N/state is "running", so only a device that is plugged in later can show it.
# xennet: a frontend waits for its device model; docs/host.md, docs/exec.md.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
tmp=$(mktemp -d); trap 'kill ${daemon:-} ${watch:-} ${qemu:-} 2>/dev/null || :; rm -rf "$tmp"' EXIT; cd "$tmp"; chmod 755 .
. "$here/real_xenstored.inc"
# QEMU from backports, whose entry is made of that of Debian itself. Nothing is installed.
mkdir -p apt/lists/partial qemu/usr/lib
sed -n '1,/^$/p' /etc/apt/sources.list.d/debian.sources > apt/debian.sources
sed 's/^Suites:.*/Suites: bookworm-backports/' apt/debian.sources > apt/backports.sources
cat apt/debian.sources > apt/all.sources; echo >> apt/all.sources; cat apt/backports.sources >> apt/all.sources
apt="-o Dir::Etc::sourcelist=$tmp/apt/all.sources -o Dir::Etc::sourceparts=- -o Dir::State::lists=$tmp/apt/lists
  -o Dir::Cache=$tmp/apt -o APT::Sandbox::User=root"
apt-get -qq $apt update
wanted=$(apt-get $apt -s --no-install-recommends -t bookworm-backports install \
  'qemu-system-xen=1:10.0.2+ds-2+deb13u1~bpo12+1' | sed -n 's/^Inst \([^ ]*\) \(\[[^ ]*\] \)\?(\([^ ]*\) .*/\1=\3/p' |
  grep -vE '^(qemu-system-(data|common|x86)|seabios|ipxe-qemu|iso-codes)=')
(cd qemu && apt-get -qq $apt download $wanted && for deb in *.deb; do dpkg -x "$deb" .; done)
# The libraries' calls that QEMU makes at its start, so that none of them looks for a hypervisor.
cat > no_xen.c <<'END'
static int handle;
void *xc_interface_open(void *l, void *d, unsigned f) { return &handle; }
int xc_interface_close(void *x) { return 0; }
void *xenforeignmemory_open(void *l, unsigned f) { return &handle; }
int xenforeignmemory_close(void *x) { return 0; }
void *xendevicemodel_open(void *l, unsigned f) { return &handle; }
int xendevicemodel_close(void *x) { return 0; }
void *xengnttab_open(void *l, unsigned f) { return &handle; }
int xengnttab_grant_copy(void *x, unsigned n, void *s) { return 0; }
int xengnttab_close(void *x) { return 0; }
void *xenevtchn_open(void *l, unsigned f) { return &handle; }
int xenevtchn_fd(void *x) { return -1; }
END
gcc -shared -fPIC -w -o no_xen.so no_xen.c
"$bin"/xenstore-write /local/domain/0/domid 0 /local/domain/1/domid 1 /local/domain/1/name guest
"$bin"/xenstore-watch /local/domain/0/backend/qnic > writes & watch=$!
until [ -s writes ]; do sleep 0.1; done
LD_LIBRARY_PATH=$LD_LIBRARY_PATH:$(find "$tmp/qemu/usr/lib" -maxdepth 1 -name '*-linux-gnu') LD_PRELOAD=./no_xen.so \
  qemu/usr/libexec/xen-qemu-system-i386 -M xenpv -xen-domid 1 -xen-attach -nodefaults -display none \
  -netdev hubport,id=n0,hubid=0 -device xen-net-device,netdev=n0,mac=00:16:3e:00:00:01,idx=0 & qemu=$!
for _ in $(seq 100); do
  [ "$("$bin"/xenstore-read /local/domain/0/device-model/1/state 2>/dev/null)" = running ] && break
  sleep 0.2
done
echo "state: $("$bin"/xenstore-read /local/domain/0/backend/qnic/1/0/state)" | tee seen
sed -n 's,.*/1/0/\(state\|feature-rx-copy\)$,\1,p' writes | tee -a seen
printf '%s\n' 'state: 2' state feature-rx-copy | diff - seen
