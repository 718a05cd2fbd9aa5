"""All orders of the next deliveries: against every order one by one, and what equal states are."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import xennet
from tests.step import every_order as every
from tests.step.every_order import Rest, every_order, rest
from xennet.choices import Choices
from xennet.cli import main
from xennet.engine.choice import using
from xennet.link.vif import VifLink
from xennet.port.spec import open_ports
from xennet.run.options import RunOptions
from xennet.run.over_vifs import setup_of
from xennet.step.explore import End, Explored, Place, State, explore
from xennet.step.machine_state import digest_of
from xennet.step.orders_text import WRITERS, text_lines
from xennet.step.stepped_run import Asked
from xennet.trace.event_text import name_of
from xennet.trace.stream import read

NETFRONT = "examples.sleepy_netfront:NeverLooksAgain"
WORDS = ("--guest", "null:", "--host", "gen:60x8", "--frontend", NETFRONT)


def asked(guest: str, host: str, **options: str) -> Asked:
    return Asked((guest,), (host,), RunOptions(**options), WORDS)  # type: ignore[arg-type]


LOSES = asked("null:", "gen:60x8", frontend=NETFRONT)
SLEEPS = asked("null:", "gen:60x8", frontend="examples.sleepy_netfront:Netfront")
LOSES_REQUESTS = asked("gen:60x300", "null:", backend="tests.step.own_netbacks:NeverLooksAgain")
LINUX = asked("gen:100x3", "null:")
#: More deliveries than any of these runs makes while frames flow.
TO_THE_END = 99


@pytest.fixture(scope="module")
def explored() -> Explored:
    return explore(Place(LOSES), TO_THE_END)


def rests(run: Asked, found: Explored) -> Counter[Rest]:
    """How many orders come to each rest, as an exploration has it."""
    orders: Counter[Rest] = Counter()
    for end in found.ends:
        there = at_its_end(run, end.choices)
        orders[there] += end.orders
        assert there.lost is bool(end.lost)
    return orders


def at_its_end(run: Asked, choices: Choices) -> Rest:
    """The rest to which choices from the first delivery of the machine on come."""
    empty = explore(Place(run), 0)
    before = empty.choices.steps
    where = every.stopped(run, [*choices.indices()][before:])
    assert where.rest is not None
    return where.rest


def test_every_order_is_counted_at_its_end(explored: Explored) -> None:
    one_by_one = every_order(LOSES)
    assert rests(LOSES, explored) == one_by_one
    assert explored.orders == one_by_one.total()
    losing = sum(many for one, many in one_by_one.items() if one.lost)
    assert sum(end.orders for end in explored.losing) == losing > 0


@pytest.mark.parametrize("run", [SLEEPS, LOSES_REQUESTS, LINUX, asked("gen:60x1", "echo:")])
def test_every_order_of_other_runs_is_counted(run: Asked) -> None:
    if not os.environ.get("XENNET_WHOLE_SUITE"):
        pytest.skip("takes a minute: set XENNET_WHOLE_SUITE=1")
    assert rests(run, explore(Place(run), TO_THE_END)) == every_order(run)


def test_responses_that_are_left_are_told_with_both_indices(explored: Explored) -> None:
    for end in explored.losing:
        assert end.lost == (
            "rx ring: rsp_prod is 8; the frontend sleeps and has taken the responses before 4, 4 "
            "are left. rsp_event is 5: rsp_prod is there or beyond, and no event came.",
        )


def test_a_driver_that_looks_again_loses_nothing() -> None:
    assert explore(Place(SLEEPS), 4).losing == []


def test_requests_that_are_left_are_told_with_both_indices() -> None:
    found = explore(Place(LOSES_REQUESTS, Choices.parse("46")), 2)
    (end,) = found.losing
    assert end.lost == (
        "tx ring: req_prod is 300; the backend sleeps and has taken the requests before 256, 44 "
        "are left. req_event is 257: req_prod is there or beyond, and no event came.",
    )
    assert found.orders > end.orders


def test_an_order_in_which_an_end_breaks_delivers_nothing() -> None:
    driver = "tests.step.own_netbacks:AnswersOthers"
    (end,) = explore(Place(asked("gen:60x2", "null:", backend=driver)), 1).losing
    assert "response to an id that is not pending" in end.lost[0]


def test_an_order_in_which_a_driver_raises_is_one_of_the_losing() -> None:
    driver = "tests.step.own_netbacks:Stumbles"
    run = asked("gen:60x300", "null:", backend=driver)
    found = explore(Place(run, Choices.parse("46")), 2)
    said = {end.lost[0].partition(" (while delivering work ")[0] for end in found.losing}
    assert said == {"ValueError: 44 requests"}
    assert len(found.losing) < len(found.ends)


def test_orders_of_a_capture_are_merged() -> None:
    capture = f"pcap:{Path(xennet.__file__).parent}/data/guest-and-host-tcp.pcap"
    found = explore(Place(asked(capture, "null:")), 3)
    assert found.orders > len(found.ends) == 1


def test_of_several_vifs_each_is_told_by_name() -> None:
    run = Asked(("gen:60x1",) * 2, (), RunOptions(guests=2, switch=True))
    found = explore(Place(run), 1)
    numbers = ", ".join(str(end.number) for end in found.ends)
    assert f"end {numbers}, {found.orders} of {found.orders} orders: all taken" in [
        *text_lines(found, run)
    ]
    for end in found.ends:
        vifs = [line.split(":")[0] for line in end.rings]
        assert (vifs, end.lost) == (["vif1.0", "vif1.0", "vif2.0", "vif2.0"], ())


def test_a_few_deliveries_are_continued_in_an_order_of_their_own(explored: Explored) -> None:
    few = explore(Place(LOSES), 3)
    assert [len(layer) for layer in few.layers] == [len(layer) for layer in explored.layers[:4]]
    assert {end.digest for end in few.ends} <= {end.digest for end in explored.ends}


def test_from_a_place_on_only_what_comes_behind_it_is_tried(explored: Explored) -> None:
    state = explored.layers[3][1]
    found = explore(Place(LOSES, state.choices), 1)
    assert found.layers[0][0].digest == state.digest
    assert found.orders == len(state.after) < explored.orders
    ways = [(name, after.digest) for name, after in state.after]
    assert [(name, after.digest) for name, after in found.layers[0][0].after] == ways


# -- equal states ----------------------------------------------------------------------------------


@contextmanager
def machine(run: Asked) -> Iterator[VifLink]:
    """The machine of a run from the moment at which its vif is up."""
    guest, host = open_ports((*run.guests, *run.hosts))
    with using("plain"):
        link = VifLink(guest, host, setup=setup_of(run.options))
        link.open()
        link.kick()
    yield link
    link.destroy()


def names(link: VifLink) -> list[str]:
    """What is ready, when time has passed if it had to."""
    loop = link.machine.run_loop
    while loop.idle and loop.jump():
        pass
    return [name_of(one, call) for one, call in loop.calls().items()]


def make(link: VifLink, name: str) -> None:
    link.machine.run_loop.step(names(link).index(name))


@settings(max_examples=6, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=2, max_size=7), st.data())
def test_equal_states_have_equal_futures(wishes: list[int], data: st.DataObject) -> None:
    """Two neighbours of an order are exchanged. If that comes to the same state, whatever is chosen
    then, by name, comes to the same."""
    at = data.draw(st.integers(0, len(wishes) - 2))
    with machine(LINUX) as one, machine(LINUX) as other:
        made = []
        for wish in wishes:
            there = names(one)
            if there:
                made.append(there[wish % len(there)])
                make(one, made[-1])
        made[at : at + 2] = made[at : at + 2][::-1]
        for name in made:
            if name not in names(other):
                return
            make(other, name)
        if digest_of(one) != digest_of(other):
            return
        while there := names(one):
            name = there[data.draw(st.integers(0, 4)) % len(there)]
            make(one, name)
            make(other, name)
            assert sorted(names(one)) == sorted(names(other))
        assert digest_of(one) == digest_of(other)
        assert rest(one) == rest(other)


def _a_ring_word(link: VifLink) -> None:
    assert link.netfront is not None
    link.netfront.queues[0].tx_ring.sring.req_event += 1


def _a_private_index(link: VifLink) -> None:
    link.netback.queues[0].tx_ring.req_cons += 1


def _an_event(link: VifLink) -> None:
    assert link.netfront is not None
    link.netfront.hv.notify(link.netfront.queues[0].tx_port)


def _a_payload_byte(link: VifLink) -> None:
    memory = link.machine.memory
    memory.u8[memory.end * 4096 - 1] ^= 1


def _a_grant(link: VifLink) -> None:
    link.vif.guest.kernel.grants.grant_access(0, 0)


def _a_node(link: VifLink) -> None:
    link.host.store.write("/local/domain/0/name", "other")


def _a_timer(link: VifLink) -> None:
    link.machine.run_loop.call_after(10**9, 1, print)


def _work(link: VifLink) -> None:
    link.machine.run_loop.defer(1, print)


def _the_time(link: VifLink) -> None:
    link.machine.run_loop.advance(1)


@pytest.mark.parametrize(
    "change",
    [
        _a_ring_word,
        _a_private_index,
        _an_event,
        _a_payload_byte,
        _a_grant,
        _a_node,
        _a_timer,
        _work,
        _the_time,
    ],
)
def test_what_decides_the_future_is_in_the_state(change: Callable[[VifLink], None]) -> None:
    with machine(LINUX) as link:
        before = digest_of(link)
        assert digest_of(link) == before
        change(link)
        assert digest_of(link) != before


def test_what_cannot_be_seen_is_like_nothing_else() -> None:
    with machine(LINUX) as link:
        link.generator = (number for number in range(3))  # type: ignore[attr-defined]
        assert digest_of(link) != digest_of(link)


# -- the command -----------------------------------------------------------------------------------


COMMAND = ("step", *WORDS)


def test_the_text_fits_a_terminal_but_for_its_commands(explored: Explored) -> None:
    lines = [*text_lines(explored, LOSES)]
    assert [line for line in lines if len(line) > 80 and not line.startswith("  xennet ")] == []
    assert all(line.isascii() for line in lines)


def test_a_graph_has_every_state_delivery_and_end(explored: Explored) -> None:
    lines = WRITERS[".dot"](explored, LOSES).splitlines()
    states = [*explored.states]
    assert sum(" -> s" in line for line in lines) == sum(len(state.after) for state in states)
    assert sum("[label=" in line and "->" not in line for line in lines) == len(states)
    assert sum("shape=ellipse" in line for line in lines) == len(explored.ends)
    assert "color=red" in lines[2]


def wide(lost: tuple[str, ...]) -> Explored:
    """Eighty deliveries, each from the first state; of the states that follow only the last one
    comes to the first end, which has ``lost`` something."""
    ends = [
        End(number, Choices(number), b"", True, what, (), 1)
        for number, what in ((1, lost), (2, ()))
    ]
    root = State(0, 0, Choices(), b"", (), 1)
    for number in range(1, 81):
        end = ends[number < 80]
        state = State(number, 1, Choices(1), b"", (), 1, [], end)
        root.after.append((f"delivery {number}", state))
    layers = ((root,), tuple(state for _, state in root.after))
    return Explored(1, Choices(), layers, tuple(ends))


def test_of_a_large_tree_only_what_leads_to_a_loss_is_drawn() -> None:
    drawn = [line for line in text_lines(wide(("Something is left.",)), LOSES) if "-- " not in line]
    assert drawn[4:6] == ["s0", f"`- {'delivery 80':44} s80 = end 1 LOST"]
    assert drawn[6] == ""
    assert any("80 deliveries are not drawn" in line for line in text_lines(wide(()), LOSES))


def test_the_command_tells_what_is_lost_and_comes_back_to_it(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = tmp_path / "orders.json"
    assert main([*COMMAND, "--all", "6", "-o", str(out)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].endswith("lose a wake-up")
    (found,) = [end for end in json.loads(out.read_text())["ends"] if end["lost"]]
    assert any("rsp_prod is 8; the frontend" in one for one in found["lost"])
    to_step, to_trace = [line.split() for line in lines if line.startswith("  xennet ")]
    assert main([*to_step[1:], "--show"]) == 0
    place = capsys.readouterr().out.splitlines()[0].split()
    assert (place[4], place[-1]) == ("traffic", found["choices"])
    recording = tmp_path / "lost.jsonl"
    assert main([*to_trace[1:-1], str(recording)]) == 1
    assert "BAD: host to guest: 8 frames did not arrive" in capsys.readouterr().out
    header, events = read(recording)
    assert header["run"]["choices"] == found["choices"]
    published = [one for one in events if one["kind"] == "publish" and one["ring"] == "rx"]
    (last,) = [one for one in published if one["index"] == "rsp_prod"][-1:]
    assert (last["old"], last["new"], last["event"], last["notify"]) == (4, 8, 1, False)


def test_where_nothing_is_lost_the_exit_code_is_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*COMMAND[:-1], "examples.sleepy_netfront:Netfront", "--all", "1"]) == 0
    assert capsys.readouterr().out.endswith("1 end: none of them loses a wake-up\n")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--all", "6", "--states", "5"), "there are more than 5 states after 4 of 6 deliveries"),
        (("--all", "1", "-o", "orders.svg"), "the name has to end in .json or .dot"),
        (("--all", "0"), "0 is not in the range"),
        (("-o", "orders.dot"), "-o is for --all N"),
        (("--all", "1", "--from", "unplug"), "none flow any more --from unplug"),
        (("--all", "1", "--show"), "leave --lines and --show out"),
        (("--all", "1", "--choices", "999a"), "step 1000 is choice 1; ready was: nothing"),
    ],
)
def test_what_cannot_be_explored_is_bad_input(
    words: tuple[str, ...], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*COMMAND, *words]) == 2
    assert why in capsys.readouterr().err


def test_a_driver_that_remembers_other_runs_is_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    driver = "tests.step.own_netbacks:CountsRuns"
    assert main(["step", "--guest", "gen:60x1", "--host", "null:", "--backend", driver]) == 0
    words = ["step", "--guest", "gen:60x1", "--host", "null:", "--backend", driver, "--all", "1"]
    assert main(words) == 2
    assert "keeps something outside of the machine" in capsys.readouterr().err
