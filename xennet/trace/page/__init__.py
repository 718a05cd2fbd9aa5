"""A recorded run (xennet-trace/1) as one HTML page that needs no network."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Iterable, Mapping
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeGuard

from jinja2 import Environment, StrictUndefined

from xennet.trace.page.structures import STEP_RULES, memories, rules, states, structures
from xennet.trace.stream import MOST_MEMORY

#: A browser keeps every event of a page in memory; what is longer is for Perfetto.
MOST_EVENTS = 50_000
#: Bytes of events in a page.
MOST_BYTES = 64 << 20

#: The files of the page's script, in the order in which they build on each other.
SCRIPTS = ("model.js", "fields.js", "elements.js", "lanes.js", "panels.js", "explorer.js")

_BYTES = re.compile("(?:[0-9a-f]{2})*")
#: Inside a script element no < may stand as it is; U+2028 and the rest of non-ASCII is \u anyway.
_ESCAPES = {ord("<"): "\\u003c", ord(">"): "\\u003e", ord("&"): "\\u0026"}


def write_html(header: Mapping[str, Any], events: Iterable[Mapping[str, Any]], out: Path) -> None:
    """Write the page of a run to the file ``out``.

    Everything of the trace goes into the page as JSON that cannot end its element; the page shows
    it as text only, and its Content-Security-Policy names the two inlined files by their hashes.

    Raises ValueError if there are more than MOST_EVENTS events, or MOST_BYTES of them, and for a
    memory, or an access to one, that cannot be.
    """
    kept, cited, size = [], set(), 0
    sizes: dict[int, int] = {}
    for event in events:
        if not _is_sound(event, sizes):
            raise ValueError(f"event {event['n']} is not as docs/trace.md says")
        kept.append(_json(event))
        size += len(kept[-1])
        if len(kept) > MOST_EVENTS or size > MOST_BYTES:
            most = f"{MOST_EVENTS} events" if size <= MOST_BYTES else f"{MOST_BYTES} bytes"
            raise ValueError(
                f"the trace has more than {most}, too many for a page: write FILE.json instead, "
                "which Perfetto shows"
            )
        if isinstance(event.get("rule"), str):
            cited.add(event["rule"])
    protocol = {
        "structures": structures(),
        "memories": memories(),
        "states": states(),
        "rules": rules(cited),
        "step_rules": STEP_RULES,
    }
    here = files(__package__)
    script = "\n".join(here.joinpath(name).read_text("utf-8") for name in SCRIPTS)
    style = here.joinpath("explorer.css").read_text("utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    template = environment.from_string(here.joinpath("page.html.jinja").read_text("utf-8"))
    text = template.render(
        script=script,
        style=style,
        script_hash=_hash(script),
        style_hash=_hash(style),
        protocol=_json(protocol),
        trace=f'{{"header":{_json(header)},"events":[{",".join(kept)}]}}',
    )
    out.write_text(text, encoding="utf-8")


def _is_sound(event: Mapping[str, Any], sizes: dict[int, int]) -> bool:
    """Whether the page can look up the bytes of ``event``, if it is of a memory or of an access to
    one; ``sizes``: id of a memory -> its bytes, up to now."""
    kind, memory, initial = event["kind"], event.get("memory"), event.get("initial", "")
    if kind == "memory":
        size = event.get("bytes")
        if not (_is_number(memory) and _is_number(size) and size <= MOST_MEMORY):
            return False
        sizes[memory] = size
        return _has_bytes(initial) and len(initial) <= 2 * size
    if kind not in ("load", "store", "update"):
        return True
    at, size = event.get("at"), event.get("size")
    if not (_is_number(memory) and _is_number(at) and _is_number(size) and size):
        return False
    if at + size > sizes.get(memory, MOST_MEMORY):
        return False
    new, old = event.get("bytes", ""), event.get("old", "")
    whole = kind == "load" or (_has_bytes(new) and len(new) == 2 * size)
    return whole and all(_has_bytes(one) and len(one) <= 2 * size for one in (new, old))


def _is_number(value: object) -> TypeGuard[int]:
    return type(value) is int and value >= 0


def _has_bytes(value: object) -> bool:
    return isinstance(value, str) and _BYTES.fullmatch(value) is not None


def _hash(text: str) -> str:
    return "sha256-" + b64encode(sha256(text.encode()).digest()).decode()


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":")).translate(_ESCAPES)
