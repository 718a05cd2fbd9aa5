#!/bin/sh
# pyroute2 makes a network namespace that it is asked to open and that does not exist. Needs root.
#
# pyroute2 0.9.7 (pip)
# Input: IPRoute(netns=NAME) with a name that no namespace has.
# Seen: a namespace of that name, which stays in /run/netns when the object is closed.
# Why it surprises: a misspelt name is no error; what is done goes to an empty namespace. `ip -n NAME`
#   says that it cannot open it. netns.setns(NAME) has the same default, flags=os.O_CREAT.
# xennet: flags=0; a namespace that does not exist is one clear line.
set -eu
name=xennet-finding-$$
tmp=$(mktemp -d); trap 'rm -rf "$tmp"; umount "/run/netns/$name" 2>/dev/null || :; rm -f "/run/netns/$name"' EXIT
cd "$tmp"
python3 -m venv v && v/bin/pip install -qq pyroute2==0.9.7
v/bin/python - "$name" <<'END' | tee seen
import os, sys
from pyroute2 import IPRoute

name = sys.argv[1]
path = f"/run/netns/{name}"
print("before:", os.path.exists(path))
with IPRoute(netns=name) as route:
    print("links:", [link.get_attr("IFLA_IFNAME") for link in route.get_links()])
print("after:", os.path.exists(path))
END
grep -q "before: False" seen && grep -q "after: True" seen
