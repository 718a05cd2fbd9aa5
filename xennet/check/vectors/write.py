"""Writing the vectors into a folder.

    vectors.json     everything but pages; ``format`` is "xennet-vectors/1"
    schema.json      its JSON Schema (draft 7)
    payload.bin      the granted pages, 4096 bytes each
    pages/NAME.bin   a ring page, 4096 bytes, for each vector of "netback_tx" and "netfront_rx"

A backend under test starts with req_cons and rsp_prod_pvt ``start``; reference ``first_gref`` + p
grants it page p of payload.bin, but for the vector's own ``grants``. A frontend under test starts
with rsp_cons ``start`` and req_prod_pvt ``start`` + 256; the buffer of slot s has the content of
page s mod 64.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from xennet.abi.xen import PAGE_SIZE
from xennet.check.rule_book import RULES_VERSION
from xennet.check.vectors import rx_vectors, small_vectors, tx_vectors
from xennet.check.vectors.vector import Vector
from xennet.check.vectors.vector_pages import FIRST_GREF, PAGES, payload

FORMAT = "xennet-vectors/1"


def schema() -> str:
    """The JSON Schema of vectors.json, as text."""
    return (files("xennet.check.vectors") / "schema.json").read_text()


def document() -> tuple[dict[str, Any], Mapping[str, bytes]]:
    """The content of vectors.json, and the raw files beside it by their path."""
    groups = {"netback_tx": tx_vectors.vectors(), "netfront_rx": rx_vectors.vectors()}
    raw = {"payload.bin": payload()}
    listed: dict[str, Any] = {
        "format": FORMAT,
        "rules_version": RULES_VERSION,
        "page_size": PAGE_SIZE,
        "payload": "payload.bin",
        "payload_pages": PAGES,
        "first_gref": FIRST_GREF,
        "layout": list(small_vectors.layouts()),
        "notify": list(small_vectors.notifications()),
        "overflow": list(small_vectors.index_bounds()),
    }
    for group, vectors in groups.items():
        listed[group] = []
        for vector in vectors:
            path = f"pages/{group}-{vector.name}.bin"
            raw[path] = vector.page
            listed[group].append(_to_json(vector, path))
    return listed, raw


def write_vectors(folder: Path) -> int:
    """Write all vectors into ``folder``, which is made if there is none. Returns how many there
    are. Raises OSError; what was in the folder before stays as it was if not all can be written."""
    listed, raw = document()
    files = {
        **raw,
        "schema.json": schema().encode(),
        "vectors.json": json.dumps(listed, indent=1).encode() + b"\n",
    }
    (folder / "pages").mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder, prefix=".new") as written:
        (Path(written) / "pages").mkdir()
        for path, content in files.items():
            (Path(written) / path).write_bytes(content)
        for path in files:
            (Path(written) / path).replace(folder / path)
    return sum(len(group) for group in listed.values() if isinstance(group, list))


def _to_json(vector: Vector, path: str) -> dict[str, Any]:
    packets, slots = vector.settled
    return {
        "name": vector.name,
        "rule": vector.rule,
        "what": vector.what,
        "page": path,
        "start": vector.start,
        "grants": [
            {
                "gref": gref,
                "page": None if granted is None else granted[0],
                "readonly": granted is not None and granted[1],
            }
            for gref, granted in vector.grants.items()
        ],
        "results": [result.value for result in vector.results],
        "settled": {"packets": packets, "slots": slots},
        "packets": [packet.to_json() for packet in vector.packets],
        "responses": [
            {
                "index": response.index,
                "id": response.id,
                "status": response.status,
                "or_error": response.or_error,
            }
            for response in vector.responses
        ],
        "consumed": vector.consumed,
        "notify": vector.notify,
        "event": vector.event,
    }
