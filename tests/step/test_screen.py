"""The screen of a stepped run as text: at 80 by 24 as it always was, and at any other size."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import evolve

from xennet.choices import Choices
from xennet.link.vifs import Stage
from xennet.step.screen import HELP, Screen, plain
from xennet.step.sentences import sentences
from xennet.step.stepped_run import Asked, Step, SteppedRun
from xennet.step.vif_indices import RingIndices

SCREENS = Path(__file__).parents[1] / "data" / "step_screens.txt"


@pytest.fixture(scope="module")
def stepped() -> Iterator[SteppedRun]:
    run = SteppedRun(Asked.between("gen:100x3", "null:"), start=Stage.HANDSHAKE)
    yield run
    run.close()


def text(screen: Screen, width: int = 80, height: int = 24) -> list[str]:
    return [plain(line) for line in screen.lines(width, height)]


def test_the_screens_of_a_run_are_those_that_they_were(stepped: SteppedRun) -> None:
    shown = []

    def note(screen: Screen) -> None:
        shown.append("".join(f"{line.rstrip()}\n" for line in text(screen)))

    stepped.back(stepped.choices.steps)
    screen = Screen(stepped)
    note(screen)
    stepped.go_on(lambda: stepped.stage is Stage.TRAFFIC)
    for _ in range(2):
        screen.choose(0)
        stepped.step()
        screen.choose(1)
        note(screen)
    stepped.go_on(lambda: False)
    note(Screen(stepped))
    note(Screen(stepped, message=stepped.command))
    note(Screen(stepped, help=True))
    mark = f"{'=' * 80}\n"
    assert mark.join(shown) == SCREENS.read_text()


def test_every_size_shows_whole_lines(stepped: SteppedRun) -> None:
    stepped.back(stepped.choices.steps - 35)
    for screen in (Screen(stepped), Screen(stepped, help=True), Screen(stepped, message="m" * 300)):
        for width in (1, 2, 3, 9, 17, 33, 57, 72, 79, 80, 150):
            for height in (1, 2, 3, 5, 8, 9, 12, 13, 14, 20, 24, 60):
                lines = text(screen, width, height)
                assert len(lines) == height
                assert max(map(len, lines)) <= width


def test_nothing_that_happened_is_cut_off(stepped: SteppedRun) -> None:
    stepped.back(stepped.choices.steps - 35)
    told = "".join("".join(stepped.steps[-1].sentences).split())
    for width in (20, 50, 80, 200):
        assert told in "".join("".join(text(Screen(stepped), width, 1000)).split())
    # Page by page everything comes by as well.
    screen, seen = Screen(stepped), []
    while True:
        lines = text(screen)
        seen += [line for line in lines if line not in seen]
        down = screen.down
        screen.scroll(8)
        if screen.down == down:
            break
    whole = text(Screen(stepped), 80, 1000)
    assert {line for line in whole if line.startswith("  ")} <= set(seen)
    screen.scroll(-10_000)
    assert screen.down == 0


def test_what_was_searched_for_is_marked_and_scrolled_to(stepped: SteppedRun) -> None:
    stepped.back(stepped.choices.steps - 35)
    screen = Screen(stepped, wanted="STATE = ", seek=True)
    marked = [line for line in text(screen) if line.startswith("/ ")]
    assert marked == ['/ store: domU1 writes device/vif/0/state = "4" in transaction 2']
    assert screen.down > 0
    screen.scroll(-100)  # it is sought once
    assert text(screen)[5].startswith("35 ")
    assert not any(line.startswith("/ ") for line in text(Screen(stepped, wanted="nowhere")))


def test_help_is_whole_at_80_by_24(stepped: SteppedRun) -> None:
    shown = text(Screen(stepped, help=True))
    assert "".join(HELP.split()) in "".join("".join(shown).split())


def test_the_chosen_delivery_is_always_on_the_screen(stepped: SteppedRun) -> None:
    for height in range(1, 40):
        screen = Screen(stepped)
        for number in range(len(stepped.ready)):
            screen.choose(number)
            shown = [line for line in text(screen, 80, height) if line.startswith(f"> {number} ")]
            assert len(shown) == (1 if height > 1 else len(shown))
    screen.choose(1000)
    assert screen.chosen == len(stepped.ready) - 1
    screen.choose(-3)
    assert screen.chosen == 0


class Still:
    """What a screen wants of a run, with a hostile peer's bytes in everything."""

    over = False
    report = failure = None
    stage = Stage.TRAFFIC
    choices = Choices(7)

    def __init__(self, bad: str, rings: int = 1) -> None:
        one = RingIndices(f"{bad}tx", 2**32 - 1, None, 2**32 - 1, 2**32 - 1, 2**32 - 1, 2**32 - 1)
        self.rings = tuple(evolve(one, name=f"{bad}{number}") for number in range(rings))
        self.steps = [Step(7, bad, 0, 3, (bad, f"store: {bad}"), (bad,), self.rings)]
        self.before = (bad,)
        self.names = [f"{bad}{number}" for number in range(30)]
        self.ready = tuple(self.names)
        self.changed = frozenset({(self.rings[-1].name, "req_prod")})


@pytest.mark.parametrize(
    "bad", ["\x1b[2J\x1b]0;owned\x07", "\x9b31m", "a\rb\nc\td", "\u202e\x00\x7f"]
)
def test_no_control_character_reaches_the_screen(bad: str) -> None:
    screen = Screen(Still(bad), message=bad)  # type: ignore[arg-type]
    for width in (10, 40, 80, 200):
        for line in text(screen, width):
            assert line.isprintable()
            assert len(line) <= width


def test_a_line_that_is_not_printable_is_made_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where whoever made it did not think of that."""
    monkeypatch.setattr(Screen, "_title", lambda self, width: [("\x1b[2J", "")])
    assert text(Screen(Still("x")))[0] == "\\x1b[2J"  # type: ignore[arg-type]


def test_of_many_rings_those_that_changed_are_shown() -> None:
    screen = Screen(Still("q", rings=40))  # type: ignore[arg-type]
    lines = text(screen)
    assert [line.split()[0] for line in lines[2:8]] == ["q0", "q1", "q2", "q3", "q4", "q39"]
    assert lines[7].split()[1] == "4294967295*"
    assert lines[8] == "and 34 more rings"
    assert any("0 to 5 of 30" in line for line in lines)


def test_what_is_said_again_stands_once() -> None:
    send = {"kind": "send", "text": "event"}
    store = {"kind": "xenstore", "who": "dom0", "path": "p", "value": "v", "tx": 0, "error": ""}
    events = [
        send,
        {**store, "op": "READ"},
        send,
        {**store, "op": "WRITE"},
        {**store, "op": "READ"},
    ]
    events += [
        {**store, "op": "RM", "error": "ENOENT"},
        {"kind": "packet", "text": "t", "rule": "F6"},
    ]
    end = {**store, "op": "TRANSACTION_END", "tx": 3}
    events += [
        {**end, "value": "T", "ended": "committed"},
        {**end, "value": "F", "ended": "aborted"},
    ]
    events.append({**end, "value": "T", "ended": "EAGAIN", "error": "EAGAIN"})
    assert sentences(events) == (
        "event (2 times)",
        "store: another request of dom0 (2 times)",
        'store: dom0 writes p = "v"',
        "store: dom0 removes p: ENOENT",
        "t [F6]",
        "store: transaction 3 of dom0 is committed",
        "store: transaction 3 of dom0 is aborted",
        "store: transaction 3 of dom0 is refused, nothing of it happens: EAGAIN",
    )
