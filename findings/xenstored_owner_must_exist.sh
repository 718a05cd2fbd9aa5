#!/bin/sh
# xenstored: a node cannot be given to a domain that does not exist yet, but such a domain may be a reader;
# the refusal names the wrong thing.
#
# C xenstored and xenstore-chmod 4.17.7 (Debian 12, 4.17.7+13-g2445b30a44-0+deb12u1)
# Input: a node that exists, /tool/x; domains 0 to 6 exist, 99 does not.
# Seen: `xenstore-chmod /tool/x n0 r99` is taken and shown by xenstore-ls -p. `xenstore-chmod /tool/x n99`
#   fails with "Error occurred setting permissions on '/tool/x': No such file or directory".
# Why it surprises: the path is there; what does not exist is the domain. A toolstack that prepares nodes
#   before it creates the domain can share them but not hand them over, and looks for a missing node.
# xennet: the same answers (docs/xenstore.md; tests/xenstore/test_permissions.py).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
tmp=$(mktemp -d); trap 'kill ${daemon:-} 2>/dev/null || :; rm -rf "$tmp"' EXIT; cd "$tmp"; chmod 755 .
. "$here/real_xenstored.inc"
"$bin"/xenstore-write /tool/x 1
{
  for perms in "n0 r99" "n5 r99" n99; do
    "$bin"/xenstore-chmod /tool/x $perms 2>&1 && echo "$perms taken" || :
    "$bin"/xenstore-ls -fp /tool | grep '^/tool/x '
  done
} | tr -s ' ' | tee seen
cat > expected <<'END'
n0 r99 taken
/tool/x = "1" (n0,r99)
n5 r99 taken
/tool/x = "1" (n5,r99)
xenstore-chmod: Error occurred setting permissions on '/tool/x': No such file or directory
/tool/x = "1" (n5,r99)
END
diff expected seen
