#!/bin/sh
# construct: what compile() makes of a definition builds other bytes, and parses arrays in another way.
#
# construct 2.10.70 (pip)
# Input: netif's extra info: an Enum tells the type, a Switch takes the layout by its name. And an array whose
#   first element has one field more, by `this._index`.
# Seen: both parse the extra info alike. Compiled, build() of what was parsed ends behind `flags`: the field
#   `type` is the number 1, and "gso" no more, as soon as it is written, and a Switch with no case for that writes
#   nothing. In a compiled Array the index is None, so its first element is parsed as if it were not. No error.
# Why it surprises: compile() is there to do the same faster, and a test that parses shows nothing of the former.
# xennet: its definitions are not compiled; codecs are derived from them (xennet/abi/codec.py).
set -eu
tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT; cd "$tmp"
python3 -m venv v && v/bin/pip install -qq construct==2.10.70
v/bin/python - <<'END' | tee seen
from construct import Array, Bytes, Enum, If, Int8ul, Int16ul, Struct, Switch, this

extra = Struct(
    "type" / Enum(Int8ul, gso=1),
    "flags" / Int8ul,
    "u" / Switch(this.type, {"gso": Struct("size" / Int16ul, "rest" / Bytes(4))}),
)
data = bytes.fromhex("0100a00501000000")
compiled = extra.compile()
print("parsed alike", extra.parse(data) == compiled.parse(data))
print("built", extra.build(extra.parse(data)).hex(), "compiled", compiled.build(compiled.parse(data)).hex())

slots = Array(2, Struct("id" / Int8ul, "total" / If(this._index == 0, Int8ul)))
for label, definition in ("array", slots), ("compiled", slots.compile()):
    print(label, *((slot.id, slot.total) for slot in definition.parse(b"\x08\xff\x09")))
END
cat > expected <<'END'
parsed alike True
built 0100a00501000000 compiled 0100
array (8, 255) (9, None)
compiled (8, None) (255, None)
END
diff expected seen
