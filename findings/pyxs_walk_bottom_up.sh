#!/bin/sh
# pyxs: walk(top, topdown=False) goes top-down everywhere but at the top.
#
# pyxs 0.4.1 (pip)
# Input: the tree /a, /a/b, /a/b/c. list() and read() answer from a dict here; walk() is pyxs's own.
# Seen: /a/b, /a/b/c, /a. Bottom-up it is /a/b/c, /a/b, /a.
# Why it surprises: the docstring sends the reader to os.walk, whose topdown=False has every node behind
#   all that is below it: what one needs to remove nodes one by one, or to sum up from the leaves. With
#   a tree of two levels, as in a first try, it is right.
# xennet: docs/xenstore.md names it; a delete() of the top removes what is below it in one request.
set -eu
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT; cd "$tmp"
python3 -m venv v && v/bin/pip install -qq pyxs==0.4.1
v/bin/python - <<'END' | tee seen
import pyxs

class Tree(pyxs.Client):
    children = {b"/a": [b"b"], b"/a/b": [b"c"], b"/a/b/c": []}

    def list(self, path):
        return self.children[path]

    def read(self, path, default=None):
        return b""

print(*(path.decode() for path, _, _ in Tree(unix_socket_path="unused").walk(b"/a", topdown=False)))
END
[ "$(cat seen)" = "/a/b /a/b/c /a" ]
