"""Steps of a run: forward, back, and from a text of choices that means the same everywhere."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import xennet
from xennet.choices import Choices, NoSuchChoiceError
from xennet.cli import main
from xennet.engine.choice import current
from xennet.link.vifs import Stage
from xennet.port.base import PortError
from xennet.step import stepped_run
from xennet.step.stepped_run import Asked, SteppedRun
from xennet.trace.stream import read

PORTS = "gen:100x3", "echo:"
WORDS = "--guest", PORTS[0], "--host", PORTS[1]


@contextmanager
def session(choices: str = "", start: Stage | None = None) -> Iterator[SteppedRun]:
    made = SteppedRun(Asked.between(*PORTS), Choices.parse(choices), start)
    try:
        yield made
    finally:
        made.close()


def to_the_end(run: SteppedRun, turn: int = 0) -> None:
    while not run.over:
        run.step((run.choices.steps * turn) % len(run.ready))


@settings(max_examples=4)
@given(st.sampled_from(Stage), st.lists(st.integers(0, 5), max_size=12))
def test_what_was_chosen_comes_to_the_same_place_again(start: Stage, wishes: list[int]) -> None:
    with session(start=start) as first:
        for wish in wishes:
            if not first.over:
                first.step(wish % len(first.ready))
        with session(str(first.choices), start) as second:
            assert second.steps == first.steps
            assert second.ready == first.ready
            assert second.rings == first.rings


@pytest.mark.parametrize(
    ("start", "turn", "steps"), [(Stage.HANDSHAKE, 1, 65), (Stage.UNPLUG, 3, 4)]
)
def test_the_text_of_the_choices_means_the_same_in_step_run_and_trace(
    start: Stage | None, turn: int, steps: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with session(start=start) as run:
        for number in range(steps):
            run.step(number * turn % len(run.ready))
        text, ready, names = str(run.choices), run.ready, run.names
        words = run.command.split()
    assert text.strip("0123456789")  # something else than the oldest is in it
    assert words[:2] == ["xennet", "step"]
    assert words[-2:] == ["--choices", text]
    with session(text) as again:
        assert (again.ready, again.names, str(again.choices)) == (ready, names, text)
        made = list(again.steps)
    recorded = tmp_path / "run.jsonl"
    assert main(["trace", "run", *words[2:], "-o", str(recorded)]) == 0
    begun = [event for event in read(recorded)[1] if event["kind"] == "begin"]
    there = [(event["name"], event["choice"], len(event["ready"])) for event in begun]
    assert there[: len(made)] == [(step.name, step.choice, step.ready) for step in made]
    assert begun[len(made)]["ready"] == [*map(str, ready)]
    capsys.readouterr()
    assert main(["run", *words[2:], "--json"]) == 0
    whole = json.loads(capsys.readouterr().out)["options"]["choices"]
    assert Choices.parse(whole).first(len(made)) == Choices.parse(text)
    with session(whole) as end:
        assert end.over
        assert end.report is not None
        assert end.report.verdict.good


def test_back_undoes_the_last_step() -> None:
    with session() as one:
        one.step(1)
        there = list(one.steps), one.ready, one.choices, one.rings
        one.step(len(one.ready) - 1)
        assert one.back()
        assert (list(one.steps), one.ready, one.choices, one.rings) == there


def test_back_leads_through_the_handshake_to_the_first_delivery() -> None:
    with session() as one:
        assert one.stage is Stage.TRAFFIC
        assert one.back(one.choices.steps)
        assert one.stage is Stage.HANDSHAKE
        assert not one.steps
        assert any("domain 1 is created" in sentence for sentence in one.before)
        assert one.command == "xennet step --guest gen:100x3 --host echo: --from handshake"
        assert not one.back()


def test_the_stages_follow_each_other_and_the_run_ends_with_its_verdict() -> None:
    with session(start=Stage.HANDSHAKE) as one:
        stages = [one.stage]
        for stage in (Stage.TRAFFIC, Stage.UNPLUG):
            one.go_on(lambda wanted=stage: one.stage is wanted)
            stages.append(one.stage)
        assert stages == [*Stage]
        last = one.steps[-1]
        assert last.did == ()
        assert any('online = "0"' in sentence for sentence in last.behind)
        one.go_on(lambda: False)
        assert one.report is not None
        assert one.report.verdict.good
        assert one.ready == ()
        assert one.back()
        assert one.report is None
        assert one.ready


def test_where_it_begins() -> None:
    with session() as traffic:
        first = traffic.choices.steps
    for choices, start, made in (
        ("", Stage.HANDSHAKE, 0),
        ("30", None, 30),
        ("30", Stage.TRAFFIC, first),
        (f"{first}a", Stage.HANDSHAKE, first + 1),
    ):
        with session(choices, start) as one:
            assert one.choices.steps == made


def test_a_step_tells_why_an_event_is_sent_and_what_the_indices_are() -> None:
    with session() as one:
        made = one.step()
        assert any("req_prod goes from 0 to 3" in sentence for sentence in made.sentences)
        assert [number for number, _ in one.found("TX REQ_PROD goes")] == [made.number]
        tx, rx = one.rings
        assert (tx.req_prod, tx.req_cons, tx.req_event) == (3, 0, 1)
        assert rx.req_prod == 256
        assert one.changed == {("tx", "req_prod")}
        assert str(tx).startswith("tx: req_prod 3, req_cons 0, req_event 1, rsp_prod 0")


def test_a_step_tells_what_it_changed_in_the_store() -> None:
    with session(start=Stage.HANDSHAKE) as one:
        one.go_on(lambda: one.steps[-1].has('state = "4"'))
        assert one.steps[-1].sentences[-1] == "device/vif/0: state 1 becomes 4"
        told = [text for text in one.steps[-1].sentences if "transaction 2" in text]
        assert told == [
            'store: domU1 writes device/vif/0/state = "4" in transaction 2',
            "store: transaction 2 of domU1 is committed",
        ]


def test_a_delivery_that_is_not_ready_changes_nothing() -> None:
    with session() as one:
        before, steps = one.ready, list(one.steps)
        with pytest.raises(NoSuchChoiceError, match="choice 9; ready was: 0 work"):
            one.step(9)
        assert one.ready == before
        assert list(one.steps) == steps


def test_frames_arrive_in_every_order_that_is_tried() -> None:
    for turn in range(3):
        with session(start=Stage.HANDSHAKE) as one:
            to_the_end(one, turn)
            assert one.report is not None
            assert one.report.verdict.good
            assert one.found("packet received")[-1][1].endswith("slots 1, bytes 100")


def test_old_steps_are_forgotten_and_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    with session() as one:
        number, kept = one.choices.steps - 20, list(one.steps)
    monkeypatch.setattr(stepped_run, "KEPT", 5)
    with session() as one:
        assert list(one.steps) == kept[-5:]
        assert one.back(20)
        assert one.choices.steps == number
        assert list(one.steps) == kept[number - 5 : number]


def test_a_run_that_is_left_in_the_middle_leaves_nothing_behind() -> None:
    threads, engine = threading.active_count(), current()
    with session() as one:
        assert threading.active_count() == threads + 1
        assert current() is not engine
        one.step()
    assert threading.active_count() == threads
    assert current() is engine
    one.close()


def test_the_other_end_of_an_error_in_a_run(tmp_path: Path) -> None:
    threads = threading.active_count()
    missing = f"pcap:{tmp_path}/none.pcap"
    assert main(["step", "--guest", missing, "--host", "null:"]) == 2
    broken = tmp_path / "broken.pcap"
    broken.write_bytes(bytes.fromhex("d4c3b2a1020004000000000000000000ffff000001000000") + b"cut")
    assert main(["step", "--guest", f"pcap:{broken}", "--host", "null:"]) == 2
    assert threading.active_count() == threads


def test_without_a_terminal_each_step_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["step", *WORDS]) == 0
    *steps, verdict, end = capsys.readouterr().out.splitlines()
    numbers = [int(line.split()[0]) for line in steps]
    assert numbers == list(range(numbers[0], numbers[0] + len(steps)))
    assert verdict.startswith("GOOD: every frame arrived")
    assert end == f"end of the run: choices {numbers[-1]}"
    for more, first in (("handshake", 1), ("unplug", numbers[0] + 9)):
        assert main(["step", *WORDS, "--from", more]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert int(lines[0].split()[0]) == first
        assert lines[-2:] == [verdict, end]
    # What choices did is told too.
    assert main(["step", *WORDS, "--choices", f"{numbers[0] - 1}a"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert int(lines[0].split()[0]) == numbers[0]
    assert lines[0].split()[1:] != steps[0].split()[1:]


def test_guests_behind_a_switch_and_options_of_a_run(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--guest", "gen:100x1", "--guests", "2", "--switch", "--no-sg", "--single-channel"]
    assert main(["step", *words, "--show"]) == 0
    shown = capsys.readouterr().out
    assert "vif1.0 tx  " in shown
    assert "vif2.0 rx  " in shown
    asked = Asked.between(*PORTS)
    with session() as one:
        assert one.asked == asked
        assert one.words == f"--guest gen:100x3 --host echo: --choices {one.choices}"


def test_choices_that_the_run_does_not_have_are_bad_input(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["step", *WORDS, "--choices", "9999a"]) == 2
    assert "step 10000 is choice 1; ready was: nothing" in capsys.readouterr().err
    assert main(["step", *WORDS, "--choices", "z"]) == 2
    assert "step 1 is choice 26; ready was: 0 xenstore" in capsys.readouterr().err


def test_a_run_that_cannot_be_made_anew_tells_what_broke_it_off(tmp_path: Path) -> None:
    frames = tmp_path / "a.pcap"
    frames.write_bytes((Path(xennet.__file__).parent / "data/guest-and-host-tcp.pcap").read_bytes())
    run = SteppedRun(Asked.between(f"pcap:{frames}", "null:"))
    try:
        frames.unlink()
        with pytest.raises(PortError) as raised:
            run.back()
        assert run.failure is raised.value
        assert run.over
    finally:
        run.close()


@pytest.mark.parametrize("port", ["pcap:-", "record:out.pcap", "exec:/bin/true", "tap:a"])
def test_a_port_that_cannot_be_in_a_second_run_is_bad_input(
    port: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["step", "--guest", "gen:100x3", "--host", port]) == 2
    assert f"{port}: steps are undone by a run that is made anew" in capsys.readouterr().err
