"""The whole-screen stepper: every key, in a terminal of 80 by 24 that textual plays."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator

import pytest
from attrs import evolve
from textual.pilot import Pilot
from textual.widgets import Input

from xennet.link.vifs import Stage
from xennet.run.options import RunOptions
from xennet.step import terminal
from xennet.step.screen import Screen, plain
from xennet.step.stepped_run import Asked, SteppedRun
from xennet.step.terminal import Stepper

#: Looks at the screen before it is given up: only a hang reaches that.
LOOKS = 2000


@pytest.fixture
def stepped() -> Iterator[SteppedRun]:
    run = SteppedRun(Asked.between("gen:100x3", "null:"))
    yield run
    run.close()


def shown(app: Stepper) -> list[str]:
    """What the terminal shows, line by line. textual has no public way to it but a picture."""
    strips = app.screen._compositor.render_strips()
    return ["".join(segment.text for segment in strip).rstrip() for strip in strips]


def use(
    run: SteppedRun,
    user: Callable[[Stepper, Pilot[None]], Awaitable[None]],
    size: tuple[int, int] = (80, 24),
) -> Stepper:
    """Have ``user(app, pilot)`` use the stepper."""
    app = Stepper(run)

    async def in_app() -> None:
        async with app.run_test(size=size) as pilot:
            await pilot.pause()
            await user(app, pilot)

    asyncio.run(in_app())
    return app


async def until(pilot: Pilot[None], app: Stepper, text: str) -> list[str]:
    """The screen as soon as ``text`` is on it."""
    for _ in range(LOOKS):
        lines = shown(app)
        if any(text in line for line in lines):
            return lines
        await pilot.pause()
    raise AssertionError(f"{text!r} did not come: {lines}")


def keys(run: SteppedRun, *pressed: str, wanted: str) -> list[str]:
    """The screen when ``wanted`` is on it after these keys."""
    lines: list[str] = []

    async def user(app: Stepper, pilot: Pilot[None]) -> None:
        nonlocal lines
        await pilot.press(*pressed)
        lines = await until(pilot, app, wanted)

    use(run, user)
    return lines


def test_the_terminal_shows_the_screen_and_nothing_else(stepped: SteppedRun) -> None:
    lines = keys(stepped, "enter", wanted="60 made")
    assert lines == [plain(line).rstrip() for line in Screen(stepped).lines(80, 24)]
    assert lines[1].split() == [
        *("req_prod", "req_cons", "req_event"),
        *("rsp_prod", "rsp_cons", "rsp_event"),
    ]
    assert lines[2].split() == ["tx", "3*", "0", "1", "0", "0", "1"]


@pytest.mark.parametrize("key", ["enter", "space", "right"])
def test_makes_the_delivery(key: str, stepped: SteppedRun) -> None:
    lines = keys(stepped, key, wanted="60 netfront pass vif1.0 q0")
    assert "  tx req_prod goes from 0 to 3; the event index 1 asks for an event" in lines


@pytest.mark.parametrize("pressed", [("1",), ("down",), ("1", "up", "down", "down")])
def test_chooses_another_delivery(pressed: tuple[str, ...], stepped: SteppedRun) -> None:
    lines = keys(stepped, *pressed, wanted="> 1  netback tx and rx pass vif1.0 q0")
    assert "  0  netfront pass vif1.0 q0" in lines
    keys(stepped, *pressed, "enter", wanted="60 netback tx and rx pass vif1.0 q0")
    assert str(stepped.choices) == "59a"


def test_a_number_that_is_not_there_is_said(stepped: SteppedRun) -> None:
    keys(stepped, "7", wanted="there is no 7: 2 are ready")
    assert stepped.choices.steps == 59


@pytest.mark.parametrize("key", ["b", "left"])
def test_goes_back(key: str, stepped: SteppedRun) -> None:
    before = keys(stepped, "0", wanted="59 made")
    assert keys(stepped, "enter", "1", "enter", key, key, wanted="59 made") == before


def test_the_start_and_the_end_are_said(stepped: SteppedRun) -> None:
    stepped.back(stepped.choices.steps)
    keys(stepped, "b", wanted="this is the start of the machine")
    stepped.go_on(lambda: False)
    lines = keys(stepped, "enter", wanted="this is the end of the run: b goes back, q leaves")
    assert "the run is over: GOOD" in lines


def test_t_goes_on_to_the_next_part(stepped: SteppedRun) -> None:
    stepped.back(stepped.choices.steps - 3)
    keys(stepped, "t", wanted="59 made  traffic")
    assert stepped.stage is Stage.TRAFFIC
    keys(stepped, "t", wanted="made  unplug")
    keys(stepped, "t", wanted="the run is over: GOOD")


def test_searches_and_goes_on_to_the_next_and_the_one_before(stepped: SteppedRun) -> None:
    keys(stepped, "slash", *"RESPONSE", "enter", wanted="63 made")
    keys(stepped, "b", "slash", *"state", "enter", "n", wanted="state 4 becomes 6")
    place = stepped.choices

    async def user(app: Stepper, pilot: Pilot[None]) -> None:
        await pilot.press("slash", *"nowhere", "enter")
        await until(pilot, app, "no step from here to the end of the run has 'nowhere'")
        assert stepped.choices == place  # all the steps to the end are undone
        await pilot.press("N")
        await until(pilot, app, "steps has 'nowhere'")
        await pilot.press("slash", *"copied", "enter")
        await until(pilot, app, "no step from here")
        await pilot.press("N")
        await until(pilot, app, "61 made")

    use(stepped, user)


def test_escape_ends_the_question_of_a_search(stepped: SteppedRun) -> None:
    async def user(app: Stepper, pilot: Pilot[None]) -> None:
        await pilot.press("slash", "q")
        assert app.query_one(Input).value == "q"
        assert shown(app)[-1].startswith("q")
        await pilot.press("escape", "n", "N", "enter")
        await until(pilot, app, "60 made")
        assert not app.query_one(Input).display

    use(stepped, user)


def test_a_key_ends_a_search_that_goes_on(
    stepped: SteppedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terminal, "_AT_ONCE", 2)

    async def user(app: Stepper, pilot: Pilot[None]) -> None:
        search = app._goes_on(lambda: False, "never")
        for steps in (61, 63):
            search.send(None)  # up to where it lets others go on
            assert stepped.choices.steps == steps
        app.action_take(0)
        with pytest.raises(StopIteration):
            search.send(None)
        assert stepped.choices.steps == 63

    use(stepped, user)


def test_pages_of_what_happened(stepped: SteppedRun) -> None:
    stepped.back(stepped.choices.steps - 35)
    first = keys(stepped, "0", wanted="more lines: Page Down")
    second = keys(stepped, "pagedown", wanted="more lines: Page Down")
    assert first[5:12] != second[5:12]
    assert keys(stepped, "pagedown", "pageup", wanted="more lines: Page Down") == first


def test_c_shows_the_command(stepped: SteppedRun) -> None:
    lines = keys(stepped, "c", wanted="xennet step --guest gen:100x3 --host null: --choices 59 ")
    assert "xennet trace run" in " ".join(lines)


def test_help_comes_and_goes(stepped: SteppedRun) -> None:
    lines = keys(stepped, "question_mark", wanted="A run is a queue of deliveries")
    assert any(line.startswith("req_event, rsp_event") for line in lines)
    for away in ("question_mark", "escape"):
        keys(stepped, "question_mark", away, wanted="59 made")


@pytest.mark.parametrize("key", ["q", "ctrl+c"])
def test_leaves(key: str, stepped: SteppedRun) -> None:
    async def user(app: Stepper, pilot: Pilot[None]) -> None:
        await pilot.press(key)

    assert use(stepped, user)._exit


def test_another_size_of_the_terminal_is_followed(stepped: SteppedRun) -> None:
    async def user(app: Stepper, pilot: Pilot[None]) -> None:
        for width, height in ((50, 20), (30, 10), (120, 40), (80, 24)):
            await pilot.resize_terminal(width, height)
            wanted = [plain(line).rstrip() for line in Screen(stepped).lines(width, height)]
            for _ in range(LOOKS):
                if shown(app) == wanted:
                    break
                await pilot.pause()
            assert shown(app) == wanted

    use(stepped, user)


def test_a_run_that_a_driver_breaks_off_can_be_gone_back_in() -> None:
    ports = Asked.between("gen:100x3", "null:")
    own = evolve(ports, options=RunOptions(backend="tests.step.own_netbacks:Breaks"))
    run = SteppedRun(own)

    async def user(app: Stepper, pilot: Pilot[None]) -> None:
        await pilot.press("t")
        lines = await until(pilot, app, "the run broke off:")
        assert "  ZeroDivisionError: \\x1b[31mof a driver" in lines
        assert any(line.startswith("  while delivering work ") for line in lines)
        assert run.steps[-1].number == run.choices.steps
        await pilot.press("enter")
        await until(pilot, app, "this is the end of the run: b goes back, q leaves")
        await pilot.press("b", "0")
        assert any(line.startswith("> 0 ") for line in await until(pilot, app, "ready"))
        assert run.failure is None

    use(run, user)
    run.close()


def test_no_color_is_heeded(stepped: SteppedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    colours = set()

    async def user(app: Stepper, pilot: Pilot[None]) -> None:
        await pilot.press("enter")
        await until(pilot, app, "60 made")
        for strip in app.screen._compositor.render_strips():
            for segment in strip.apply_filter(app._filters[-1], None):
                colours.add(segment.style and segment.style.color)

    use(stepped, user)
    assert {colour and colour.name for colour in colours} <= {None, "default"}
