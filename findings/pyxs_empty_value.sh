#!/bin/sh
# pyxs cannot write an empty value, nor a line break, a tab or any byte above 0x7f.
#
# pyxs 0.4.1 (pip) with the C xenstored 4.17.7 (Debian 12)
# Input: a node with the empty value, as mkdir() makes it; values "a\tb" and "caf\xc3\xa9" written by
#   xenstore-write.
# Seen: read() gives b"", b"a\tb" and b"caf\xc3\xa9"; write() of what was read raises ValueError for each,
#   whose text is the arguments, before anything is sent.
# Why it surprises: XenStore keeps bytes with a length, empty is the commonest value in a store (every
#   node made on the way to another), and a client that copies a subtree stops at the first of them.
# xennet: any bytes by xennet.xenstore.Client; docs/xenstore.md names it for users of pyxs.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
tmp=$(mktemp -d); trap 'kill ${daemon:-} 2>/dev/null || :; rm -rf "$tmp"' EXIT; cd "$tmp"; chmod 755 .
python3 -m venv v && v/bin/pip install -qq pyxs==0.4.1
. "$here/real_xenstored.inc"
"$bin"/xenstore-write /tool/tab "$(printf 'a\tb')" /tool/utf8 "$(printf 'caf\303\251')"
v/bin/python - <<'END' | tee seen
import os, pyxs

with pyxs.Client(unix_socket_path=os.environ["XENSTORED_PATH"]) as client:
    client.mkdir(b"/tool/empty")
    for path in b"/tool/empty", b"/tool/tab", b"/tool/utf8":
        value = client.read(path)
        try:
            client.write(path, value)
            print(path, value, "written")
        except ValueError as error:
            print(path, value, error)
END
cat > expected <<'END'
b'/tool/empty' b'' (b'/tool/empty\x00', b'')
b'/tool/tab' b'a\tb' (b'/tool/tab\x00', b'a\tb')
b'/tool/utf8' b'caf\xc3\xa9' (b'/tool/utf8\x00', b'caf\xc3\xa9')
END
diff expected seen
