"""All items as one HTML page: explanations by field, and which items are shown one by one.

In the two chapters about frames every item is shown. In the others the first item of each kind is,
and what stands alone in the store; those behind it are lines in a list that can be opened. What
carries the store's messages is shown once.
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from attrs import frozen
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from illustrated.items import Item, Span, Write, chapters, writes
from illustrated.life import Life, record
from xennet.check.rule_book import rule_book

HERE = Path(__file__).resolve().parent
#: Chapters in which every item is shown.
_WHOLE = ("transmit", "receive")
#: Kinds that are shown once on the page: events of the store are most of what happens.
_ONCE = ("msg.", "store.", "info.", "fifo.", "upcall")
#: Kinds of which every item is shown.
_ALONE = ("node.", "call.", "state", "notify.", "ring.init")
_HEADER, _RELEASE = re.compile(r"[a-z_/]+\.h\b"), "Xen 4.17, "
_NAMES = {
    "attach": "Attach",
    "features": "Features",
    "rings": "Rings",
    "publish": "Publish",
    "connect": "Connect",
    "transmit": "A frame out",
    "receive": "A frame in",
    "close": "Close",
}


class ExplanationError(Exception):
    """Something has no explanation, or an explanation has nothing to explain."""


@frozen
class Explanations:
    """explanations.toml: chapters by id, moments, and what is said of each field."""

    chapters: Mapping[str, Mapping[str, str]]
    moments: list[Mapping[str, str]]
    fields: Mapping[str, Mapping[str, str]]

    def of(self, key: str) -> Mapping[str, str]:
        """What is said of a field. Raises ExplanationError for one that nobody explains."""
        entry = self.fields.get(key)
        if entry is None:
            raise ExplanationError(f"nobody explains {key}")
        return entry


def explanations() -> Explanations:
    """What the file says."""
    read = tomllib.loads((HERE / "explanations.toml").read_text())
    by_id = {one["id"]: one for one in read["chapter"]}
    return Explanations(by_id, read["moment"], read["field"])


def build() -> str:
    """The page."""
    return render(record(), explanations())


def render(life: Life, said: Explanations) -> str:
    """A recorded life as a page. Raises ExplanationError where the two do not fit."""
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined
    )
    told = chapters(life)
    if [*told] != [*said.chapters]:
        raise ExplanationError(f"chapters told: {[*told]}, explained: {[*said.chapters]}")
    known: dict[str, int] = {}
    shown = [_chapter(name, items, said, known) for name, items in told.items()]
    _require_used(told, said)
    items = [item for all_of_one in told.values() for item in all_of_one]
    page = environment.get_template("page.html.jinja").render(
        chapters=shown,
        written=len({at for one in _writes(life) for at in one.bytes_at}),
        sum=_sum(life, items),
        nodes=sum(item.node is not None for item in items),
    )
    return "\n".join(line.rstrip() for line in page.splitlines()) + "\n"


def _writes(life: Life) -> list[Write]:
    return [one for one in writes(life.events) if isinstance(one, Write)]


def _require_used(told: dict[str, list[Item]], said: Explanations) -> None:
    kinds = {(name, item.key) for name, items in told.items() for item in items}
    for moment in said.moments:
        if (moment["chapter"], moment["at"]) not in kinds:
            raise ExplanationError(f"no such moment: {moment['at']} in {moment['chapter']}")
    used = {span.key for items in told.values() for item in items for span in item.spans}
    used |= {item.key for items in told.values() for item in items if item.node is not None}
    if unused := sorted(set(said.fields) - used):
        raise ExplanationError(f"explained and never written: {', '.join(unused)}")


def _chapter(
    name: str, items: list[Item], said: Explanations, known: dict[str, int]
) -> dict[str, Any]:
    """A chapter; ``known``: where on the page kinds that are shown once, and fields, are explained
    first."""
    about = said.chapters[name]
    moments = {one["at"]: one["text"] for one in said.moments if one["chapter"] == name}
    seen: dict[str, int] = {}
    kinds: set[str] = set()
    blocks: list[dict[str, Any]] = []
    folded: list[Item] = []
    for item in items:
        alone = name in _WHOLE or item.key.startswith(_ALONE)
        again = item.key in kinds or (item.key in known and item.key not in moments)
        if not alone and again:
            folded.append(item)
            continue
        if folded:
            blocks.append(_block(like=_folded(folded, known)))
            folded = []
        kinds.add(item.key)
        if item.key.startswith(_ONCE):
            known.setdefault(item.key, item.number)
        for key in [span.key for span in item.spans] + [item.key] * (item.node is not None):
            known.setdefault(key, item.number)
        blocks.append(_block(item=_item(item, seen, said), moment=moments.pop(item.key, "")))
    if folded:
        blocks.append(_block(like=_folded(folded, known)))
    return {
        "id": name,
        "short": _NAMES[name],
        "title": about["title"],
        "text": about["text"].strip(),
        "blocks": blocks,
    }


def _block(item: Any = None, moment: str = "", like: Any = None) -> dict[str, Any]:
    return {"item": item, "moment": moment.strip(), "like": like}


def _item(item: Item, seen: dict[str, int], said: Explanations) -> dict[str, Any]:
    spans = [_span(span, item, seen, said) for span in item.spans]
    entry, again = None, None
    if item.node is not None:
        again = seen.setdefault(item.key, item.number)
        if again == item.number:
            entry, again = _entry(item.key, said), None
    bytes_ = sum(len(span.raw) for span in item.spans)
    fields = len(item.spans)
    return {
        "number": item.number,
        "by": _writer(item),
        "title": item.title,
        "where": item.where,
        "note": item.note,
        "spans": spans,
        # The fields of a frame are many, and nothing of Xen's.
        "fresh": any(span["entry"] for span in spans) and "buffers" not in item.key,
        "summary": f"{bytes_} byte{'s' * (bytes_ > 1)}, {fields} field{'s' * (fields > 1)}",
        "entry": entry,
        "again": again,
    }


def _span(span: Span, item: Item, seen: dict[str, int], said: Explanations) -> dict[str, Any]:
    first = seen.setdefault(span.key, item.number)
    return {
        "hex": span.raw.hex(" "),
        "name": _name(span.key),
        "meaning": span.meaning,
        "again": first if first != item.number else None,
        "entry": _entry(span.key, said) if first == item.number else None,
    }


def _name(key: str) -> str:
    for prefix in ("tx.request.", "tx.response.", "rx.request.", "rx.response.", "rx.extra."):
        if key.startswith(prefix):
            return key.removeprefix(prefix)
    return key.removeprefix("ring.").removeprefix("msg.").removeprefix("store.")


def _entry(key: str, said: Explanations) -> dict[str, str]:
    entry = said.of(key)
    rule = rule_book()[entry["rule"]]
    return {
        "text": entry["text"].strip(),
        "field": _RELEASE + entry["field"] if _HEADER.match(entry["field"]) else entry["field"],
        "by": entry["by"],
        "rule": rule.id,
        "rule_text": rule.text,
        "check": entry.get("check", ""),
        "unseen": rule.unseen,
    }


def _writer(item: Item) -> str:
    """Who wrote: "guest", "dom0" or "xen"."""
    if item.key in ("grant.use", "grant.used", "staging.buffers", "page.zeroed"):
        return "xen"
    if item.key.startswith(("info.", "fifo.")):
        set_by_xen = any(int.from_bytes(s.raw, "little") for s in item.spans)
        owner = "guest" if "domain 1" in item.title else "dom0"
        leaves = item.key == "fifo.word" and "LINKED" not in item.spans[0].meaning
        cleared = leaves and "was 0xa" in item.note
        return "xen" if set_by_xen and not cleared and item.key != "info.mask" else owner
    if item.key.startswith("msg.") or item.key.startswith("store."):
        guests = item.key in ("msg.req", "store.req_prod", "store.rsp_cons")
        return "guest" if guests else "dom0"
    if item.key == "rx.buffers":
        return "xen"
    if item.key.startswith(("grant.", "ring.", "tx.buffers")):
        return "guest"
    if item.node is not None:
        return "guest" if item.title.startswith("guest ") else "dom0"
    if item.spans:
        return "guest" if item.dom == 1 else "dom0"
    return "guest" if item.dom == 1 else "dom0"


def _folded(items: list[Item], known: dict[str, int]) -> dict[str, Any]:
    count = Counter(_kind(item) for item in items)
    parts = ", ".join(f"{kind}: {number}" for kind, number in count.items())
    first, last = items[0].number, items[-1].number
    which = f"{first} to {last}" if last > first else str(first)
    return {
        "said": f"{which} likewise ({parts})",
        "lines": "\n".join(map(_line, items)),
        # No field of a line goes without a place where it is explained.
        "fields": {key: known[key] for item in items for key in (s.key for s in item.spans)},
    }


def _kind(item: Item) -> str:
    words = {"msg": "messages", "store": "indices of the store's ring", "info": "event bits"}
    words |= {"fifo": "FIFO words", "upcall": "upcalls"}
    exact = {"grant.frame": "frame numbers granted later", "grant.grant": "grants"}
    exact |= {"grant.use": "grants in use", "grant.used": "grants not in use any more"}
    exact |= {"grant.end": "grants ended", "rx.request": "receive requests"}
    return exact.get(item.key) or words.get(item.key.split(".")[0], item.key)


def _line(item: Item) -> str:
    # A payload's text has all its bytes.
    raw = " ".join(span.raw.hex() for span in item.spans if span.key != "msg.payload")
    meanings = "; ".join(f"{_name(span.key)} {span.meaning}" for span in item.spans)
    return f"{item.number:>5}  {item.title}" + (f" | {raw} | {meanings}" if raw else "")


def _sum(life: Life, items: list[Item]) -> Iterator[dict[str, Any]]:
    all_writes = _writes(life)
    names = {(one.frame, one.what, one.owner) for one in all_writes}
    for what, owner in sorted({(what, owner) for _, what, owner in names}):
        frames = {frame for frame, *of in names if tuple(of) == (what, owner)}
        mine = {at for one in all_writes if one.frame in frames for at in one.bytes_at}
        explained = {at for item in items for at in item.bytes_at if at // 4096 in frames}
        yield {
            "what": f"{what}, domain {owner}",
            "explained": len(explained),
            "written": len(mine),
            "writes": sum(one.frame in frames for one in all_writes),
        }
