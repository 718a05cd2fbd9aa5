"""The pictures of the lessons, drawn from rings that run; ``python -m xennet.course.pictures DIR``.

Each picture has a background of its own, so it reads the same on a dark page.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from xennet.abi.netif import TX_REQUEST, TX_RESPONSE
from xennet.ring import BackRing, FrontRing, SharedRing, tx_ring

_FRONT, _BACK, _INK, _PALE = "#1f5fa8", "#a8501f", "#222222", "#f2f2f2"
#: Slots of the picture of a ring.
_SHOWN = 8


def _new_ring() -> tuple[memoryview, SharedRing, FrontRing, BackRing]:
    page = memoryview(bytearray(4096))
    ring = tx_ring(page, page.cast("I"))
    return page, ring, FrontRing.init(ring), BackRing.init(ring)


def ring_picture() -> str:
    """Lesson 1: the header and the first slots of a transmit ring in use, and whose each slot is.

    Returns: an SVG document.
    """
    page, ring, front, back = _new_ring()
    for index in range(6):
        if index == 5:
            front.push_requests()  # the last one stays unpublished
        ring.write_slot(index, TX_REQUEST.pack(8 + index, 0, 0, index, 60))
        front.req_prod_pvt += 1
    back.req_cons = 3
    for index in range(2):
        if index == 1:
            back.push_responses()
        ring.write_slot(index, TX_RESPONSE.pack(index, 0))
        back.rsp_prod_pvt += 1

    drawn = []
    for place, name in enumerate(("req_prod", "req_event", "rsp_prod", "rsp_event")):
        colour = _FRONT if name in ("req_prod", "rsp_event") else _BACK
        x = 20 + place * 180
        drawn += [
            _box(x, 40, 170, 44, colour),
            _text(x + 10, 58, f"bytes {place * 4} to {place * 4 + 3}", colour),
            _text(x + 10, 76, f"{name} = {getattr(ring, name)}", colour),
        ]
    for index in range(_SHOWN):
        what, owner = _slot(index, ring, front, back)
        colour = _FRONT if owner == "frontend" else _BACK
        y = 104 + index * 30
        at = 64 + index * 12
        drawn += [
            _box(20, y, 710, 26, colour),
            _text(30, y + 18, f"slot {index}", colour),
            _text(90, y + 18, page[at : at + 12].hex(" "), _INK),
            _text(410, y + 18, what, colour),
            _text(640, y + 18, owner, colour),
        ]
    title = "A transmit ring: whose each number and each slot is"
    return _svg(750, 360, title, drawn)


def _slot(index: int, ring: SharedRing, front: FrontRing, back: BackRing) -> tuple[str, str]:
    """What lies in slot ``index``, and which end may write it."""
    for end, what, owner in (
        (ring.rsp_prod, "response, published", "frontend"),
        (back.rsp_prod_pvt, "response, not published", "backend"),
        (back.req_cons, "request, taken", "backend"),
        (ring.req_prod, "request, published", "backend"),
        (front.req_prod_pvt, "request, not published", "frontend"),
    ):
        if index < end:
            return what, owner
    return "free", "frontend"


def time_line() -> str:
    """Lesson 2: four publications of a frontend, and the event number each is compared with.

    Returns: an SVG document.
    """
    _, ring, front, back = _new_ring()
    drawn = [
        _text(20, 56, "frontend", _FRONT),
        _text(540, 56, "backend", _BACK),
        _line(430, 64, 430, 348, _FRONT),
        _line(530, 64, 530, 348, _BACK),
    ]
    y = 84

    def send() -> None:
        nonlocal y
        old = front.req_prod_pvt
        front.req_prod_pvt += 1
        sent = front.push_requests_and_check_notify()
        compared = f"{old} < {ring.req_event} <= {ring.req_prod}"
        answer = "yes: an event" if sent else "no: no event"
        drawn.append(
            _text(20, y, f"req_prod {old} to {ring.req_prod};  {compared}?  {answer}", _FRONT)
        )
        if sent:
            drawn.append(_line(430, y - 4, 524, y - 4, _INK))
            drawn.append(f'<path d="M530 {y - 4}l-9 -5v10z" fill="{_INK}"/>')
        y += 32

    def work(what: str) -> None:
        nonlocal y
        drawn.append(_text(540, y, what, _BACK))
        y += 32

    work(f"sleeps; req_event is {ring.req_event}")
    send()
    send()
    back.req_cons = 2
    work("wakes, takes two")
    send()
    back.req_cons = 3
    work("takes one, finds no more")
    send()
    ring.req_event = back.req_cons + 1
    work(f"stores req_event = {ring.req_event}")
    work(f"looks once more: {back.unconsumed_requests} waits")
    title = "A frontend publishes: is req_event among the numbers just passed?"
    return _svg(800, 364, title, drawn)


def _svg(width: int, height: int, title: str, drawn: list[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" role="img" font-family="monospace" font-size="13">\n'
        f"<title>{_escaped(title)}</title>\n"
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>\n'
    )
    return head + "\n".join([_text(20, 26, title, _INK), *drawn]) + "\n</svg>\n"


def _box(x: int, y: int, width: int, height: int, colour: str) -> str:
    size = f'width="{width}" height="{height}"'
    return f'<rect x="{x}" y="{y}" {size} fill="{_PALE}" stroke="{colour}"/>'


def _line(x: int, y: int, to_x: int, to_y: int, colour: str) -> str:
    return f'<path d="M{x} {y}L{to_x} {to_y}" stroke="{colour}"/>'


def _text(x: int, y: int, text: str, colour: str) -> str:
    return f'<text x="{x}" y="{y}" fill="{colour}">{_escaped(text)}</text>'


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")


#: Each picture's file in docs/course.
PICTURES: dict[str, Callable[[], str]] = {"lesson1.svg": ring_picture, "lesson2.svg": time_line}

if __name__ == "__main__":
    for _name, _draw in PICTURES.items():
        (Path(sys.argv[1]) / _name).write_text(_draw(), encoding="utf-8")
