"""The commands of a host that stays up, in this process and in virtual time."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import pytest
from live_hosts import Console

from xennet.host.capacity import Capacity
from xennet.hostd.control_socket import MOST_CLIENTS, ControlSession, ControlSocket
from xennet.hostd.ends import FailingPort
from xennet.hostd.host_directory import HostDirectory
from xennet.hostd.json_lines import LONGEST, decode, encode
from xennet.hostd.live_host import AnyDomain, LiveHost
from xennet.hostd.serve import ServedHost
from xennet.interface import OutOfFramesError
from xennet.port.base import BasePort, PortError
from xennet.pump import Pump, RealClock
from xennet.runloop import RunLoop
from xennet.xenstore.daemon import Daemon
from xennet.xenstore.errors import SocketError

QNIC = "/local/domain/0/backend/qnic/1/0"
MODEL = "/local/domain/0/device-model/1/state"


@pytest.fixture
def console() -> Iterator[Console]:
    console = Console()
    yield console
    console.end()


@pytest.fixture(scope="module")
def unchanged() -> Iterator[Console]:
    """One for all tests that leave it as it was."""
    console = Console()
    yield console
    console.end()


def vifs(console: Console) -> dict[str, dict[str, Any]]:
    domains = console.do("list")["domains"]
    return {vif["name"]: vif for domain in domains for vif in domain["vifs"]}


# -- good ones -------------------------------------------------------------------------------------


def test_two_guests_reach_each_other_through_the_switch(console: Console, tmp_path: Path) -> None:
    out = tmp_path / "out.pcap"
    told = console.do("attach", domain=2, front=f"record:{out}")
    assert told["connected"]
    assert told["why"] == []
    console.do("attach", domain="domU1", front="gen:60x20")
    console.rest()
    shown = vifs(console)
    assert shown["vif1.0"]["frontend"]["frames_in"] == 20
    assert shown["vif1.0"]["backend"]["frames_out"] == 20
    assert shown["vif2.0"]["backend"]["frames_in"] == 20
    assert shown["vif2.0"]["frontend"]["frames_out"] == 20
    console.host.pump.pass_time(1_000_000_000)
    assert out.stat().st_size == 24 + 20 * (16 + 60)  # written out while it is attached
    assert console.do("detach", domain=2) == {
        "name": "vif2.0",
        "outcome": "done",
        "forced": False,
        "reason": "",
    }
    assert len(console.live.switch.ports) == 1
    assert list(vifs(console)) == ["vif1.0"]


def test_a_loop_of_the_switch_is_ended_by_a_command(console: Console) -> None:
    """The switch has no spanning tree: frames go round until an end of the loop is gone."""

    def ask(command: str, **arguments: Any) -> None:
        console.session.receive(encode({"command": command, "arguments": arguments}))
        turns = 0

        def over() -> bool:
            nonlocal turns
            turns += 1
            assert turns < 100
            console.commands.look()
            return bool(console.session.pending)

        console.host.pump.hold(None, over)
        answer = decode(console.session.take())
        assert answer["result"]["outcome"] == "done"

    loop = console.host.machine.run_loop
    ask("attach", domain=1, front="switch", back="switch", handle=7)
    ask("attach", domain=2, front="gen:60x5", back="switch")
    before = loop.steps
    console.host.pump.hold(None, lambda: loop.steps > before + 1000)
    assert not loop.idle
    ask("detach", domain=1, vif=7)
    console.rest()


def test_a_handle_can_be_used_again_and_again(console: Console) -> None:
    watches = console.host.service.store.watches_of(0)
    for number in range(5):
        told = console.do("attach", domain=1, back="echo:", mac="00:16:3E:00:00:0A")
        assert (told["name"], told["mac"], told["connected"]) == (
            "vif1.0",
            "00:16:3e:00:00:0a",
            True,
        )
        named = {0: 0, 1: "0", 2: "vif1.0", 3: "00:16:3e:00:00:0a"}.get(number)
        console.do("detach", domain=1, vif=named)
        console.rest()
    assert console.host.service.store.watches_of(0) == watches
    assert not console.host.guests[1].vifs


def test_options_reach_the_vif(console: Console) -> None:
    told = console.do("attach", domain=1, handle=9, queues=3, mtu=4000, type="qnic", back="null:")
    assert (told["name"], told["queues"], told["connected"]) == ("vif1.9", 3, True)
    assert told["backend"]["directory"] == "/local/domain/0/backend/qnic/1/9"
    store = console.client()
    assert store.read("/local/domain/1/device/vif/9/multi-queue-num-queues") == b"3"
    assert store.read("/local/domain/1/device/vif/9/mtu") == b"4000"


def test_a_domain_for_backends_has_backends(console: Console) -> None:
    made = console.do("create", name="drivers", driver_domain=True)
    known = {"domid": 3, "name": "drivers", "state": "running", "drivers": "xennet"}
    assert made == {**known, "vifs": []}
    told = console.do("attach", domain=1, backend="drivers", back="echo:")
    assert (told["backend_domid"], told["connected"]) == (3, True)
    assert console.do("destroy", domain="drivers") == {"domid": 3, "name": "drivers", "gone": True}
    assert "domain 3, which has the backend, does not run" in console.do("why", domain=1)["why"]


def test_a_guest_whose_kernel_is_a_program_is_left_alone(console: Console) -> None:
    made = console.do("create", drivers="other")
    assert (made["domid"], made["drivers"]) == (3, "other")
    assert console.refused("attach", domain=3, front="null:") == (
        "domain 3 has no drivers of xennet's: front has to be 'other'"
    )
    told = console.do("attach", domain=3)
    assert (told["frontend"]["end"], told["backend"]["state"]) == ("other", "InitWait (2)")
    assert "domain 3, whose drivers are not xennet's, has shown no state of a driver: " in " ".join(
        console.do("why", domain=3)["why"]
    )
    assert console.do("destroy", domain=3)["gone"]


def test_a_guest_is_created_and_destroyed_with_its_vifs(console: Console) -> None:
    made = console.do("create", name="web-1", frontend="freebsd", grant_version=2)
    assert (made["domid"], made["name"]) == (3, "web-1")
    assert console.do("attach", domain="web-1")["connected"]
    assert console.do("attach", domain="web-1")["name"] == "vif3.1"
    assert console.do("destroy", domain=3)["gone"]
    assert [domain["domid"] for domain in console.do("list")["domains"]] == [0, 1, 2]
    assert console.live.switch.ports == []


def test_a_crashed_guest_is_shown_as_one(console: Console) -> None:
    console.do("attach", domain=1)
    console.host.guests[1].crash()
    console.rest()
    assert [one["state"] for one in console.do("list")["domains"]] == [
        "running",
        "crashed",
        "running",
    ]
    assert console.refused("attach", domain=1) == "domain 1 does not run"
    assert any("does not run" in reason for reason in console.do("why", domain=1)["why"])
    assert console.do("destroy", domain=1)["gone"]


@pytest.mark.parametrize("side", ["front", "back"])
def test_an_end_of_another_program_is_not_waited_for(console: Console, side: str) -> None:
    before = console.host.machine.run_loop.now
    told = console.do("attach", domain=1, **{side: "other"})
    assert console.host.machine.run_loop.now == before
    assert not told["connected"]
    end = "frontend" if side == "front" else "backend"
    assert told[end] == told[end] | {"end": "other", "state": "Initialising (1)"}
    reasons = " ".join(console.do("why", domain=1)["why"])
    assert "whose drivers leave this end to another program" in reasons
    console.host.pump.pass_time(100_000_000_000)
    assert vifs(console)["vif1.0"]["outcome"] == ("pending" if side == "back" else "done")
    assert console.do("detach", domain=1)["forced"]


def test_a_vif_of_a_device_model_is_started_when_that_runs(console: Console) -> None:
    told = console.do("attach", domain=1, type="qnic", back="other")
    assert told["device_model"] == "plugs"
    store = console.client()
    for path in (QNIC, "/local/domain/1/device/vif/0"):
        assert not store.exists(path)
    nodes = {"backend": QNIC, "backend-id": "0", "mac": "00:16:3e:00:00:01", "state": "1"}
    store.mkdir("/local/domain/1/device/vif/0")
    store.set_perms("/local/domain/1/device/vif/0", ["n1", "r0"])
    for name, value in nodes.items():
        store.write(f"/local/domain/1/device/vif/0/{name}", value)
    store.write(f"{QNIC}/state", "2")
    store.set_perms(QNIC, ["n0", "r1"])
    console.rest()
    assert not console.host.guests[1].frontends.devices
    assert any(MODEL in reason for reason in console.do("why", domain=1)["why"])
    store.write(MODEL, "running")
    console.rest()
    assert list(console.host.guests[1].frontends.devices) == ["device/vif/0"]


def test_devices_that_nobody_attached_are_left_alone(console: Console) -> None:
    console.do("attach", domain=1)
    store = console.client()
    for name in ("7", "-1", "x", "07"):
        store.write(f"/local/domain/1/device/vif/{name}/state", "1")
        store.write(f"/local/domain/0/backend/vif/1/{name}/state", "1")
        store.write(f"/local/domain/0/backend/vif/{name}/0/state", "1")
    console.rest()
    assert list(console.host.guests[1].frontends.devices) == ["device/vif/0"]
    assert list(console.host.dom0.backends.devices) == ["backend/vif/1/0"]
    assert console.do("why", domain=1)["why"] == []


# -- bad ones --------------------------------------------------------------------------------------

REFUSED = [
    ("fly", {}, "no command 'fly'; there are list, create, attach, detach, destroy, why"),
    ("list", {"all": 1}, "unknown argument 'all'"),
    ("attach", {}, "domain is missing"),
    ("attach", {"domain": 9}, "no domain '9'; there are 0 (Domain-0), 1 (domU1), 2 (domU2)"),
    ("attach", {"domain": 0}, "domain 0 has no frontends: it is for backends"),
    ("attach", {"domain": None}, "domain is missing"),
    ("attach", {"domain": True}, "domain has to be a text, not True"),
    ("attach", {"domain": ["1"]}, "domain has to be a text, not ['1']"),
    ("attach", {"domain": 1, "backend": 2}, "domain 2 is a guest, it has no backends"),
    ("attach", {"domain": 1, "handle": 70000}, "handle has to be a number from 0 to 65535, not"),
    ("attach", {"domain": 1, "handle": "0"}, "handle has to be a number from 0 to 65535, not '0'"),
    (
        "attach",
        {"domain": 1, "handle": True},
        "handle has to be a number from 0 to 65535, not True",
    ),
    ("attach", {"domain": 1, "queues": 0}, "queues has to be a number from 1 to 8, not 0"),
    ("attach", {"domain": 1, "mtu": 10}, "mtu has to be a number from 68 to 65521, not 10"),
    ("attach", {"domain": 1, "mac": "01:00:00:00:00:00"}, "'01:00:00:00:00:00' is no address of"),
    ("attach", {"domain": 1, "mac": "x"}, "'x' is no address of one interface"),
    ("attach", {"domain": 1, "type": "disk"}, "xennet's netback serves the types vif, qnic, not"),
    (
        "attach",
        {"domain": 1, "type": "a/b", "back": "other"},
        "a type of backends names a directory",
    ),
    (
        "attach",
        {"domain": 1, "device_model": "maybe"},
        "device_model has to be one of none, serves",
    ),
    ("attach", {"domain": 1, "device_model": "plugs"}, "a device model has the backend: back has"),
    ("attach", {"domain": 1, "front": "bla:"}, "port 'bla:': unknown, known are"),
    ("attach", {"domain": 1, "back": "exec:./x"}, "'xennet exec --host' starts it, and the end is"),
    ("attach", {"domain": 1, "front": "pcap:x"}, "a host takes absolute file names only"),
    ("attach", {"domain": 1, "front": "record:-"}, "a host has no standard input or output for it"),
    ("attach", {"domain": 1, "front": "pcap:/n/x"}, "/n/x: cannot be opened: No such file"),
    ("attach", {"domain": 1, "front": "null:\n"}, "front has to be a text, not 'null:\\n'"),
    ("attach", {"domain": 1, "front": "x" * 5000}, "front has to be a text, not 'xxxxx"),
    ("attach", {"domain": 1, "wait": -1}, "wait has to be 0 to 600 seconds, not -1"),
    ("attach", {"domain": 1, "wait": float("nan")}, "wait has to be 0 to 600 seconds, not nan"),
    ("attach", {"domain": 1, "colour": "red"}, "unknown argument 'colour'"),
    ("detach", {"domain": 1}, "domain 1 has no vif"),
    ("detach", {"domain": 1, "vif": 3}, "domain 1 has no vif"),
    ("detach", {"domain": 1, "vif": {}}, "vif has to be a text, not {}"),
    ("why", {"domain": "x"}, "no domain 'x'"),
    ("destroy", {"domain": 0}, "domain 0 is the host itself"),
    ("create", {"name": "a b"}, "a name has up to 64 letters"),
    ("create", {"name": "17"}, "a name has up to 64 letters"),
    ("create", {"name": "domU1"}, "there is a domain 'domU1' already"),
    ("create", {"frontend": "dos"}, "frontend has to be one of linux, freebsd, windows, not 'dos'"),
    *(
        ("create", {"driver_domain": True} | of_a_guest, "a domain for backends has xennet's")
        for of_a_guest in ({"drivers": "other"}, {"frontend": "freebsd"}, {"grant_version": 2})
    ),
    ("create", {"driver_domain": 1}, "driver_domain has to be true or false, not 1"),
]


@pytest.mark.parametrize(("command", "arguments", "reason"), REFUSED)
def test_what_cannot_be_is_refused_with_one_line_and_nothing_happens(
    unchanged: Console, command: str, arguments: dict[str, Any], reason: str
) -> None:
    before = unchanged.do("list")
    refused = unchanged.refused(command, **arguments)
    assert reason in refused
    assert "\n" not in refused
    assert unchanged.do("list") == before
    assert unchanged.live.switch.ports == []


def test_an_error_of_the_system_without_a_number_is_told_by_its_text(
    unchanged: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("nothing is left")

    monkeypatch.setattr(LiveHost, "create_guest", fail)
    assert unchanged.refused("create") == "the system: nothing is left"


def test_a_handle_in_use_is_refused_and_its_ports_are_closed(
    console: Console, tmp_path: Path
) -> None:
    console.do("attach", domain=1)
    out = tmp_path / "out.pcap"
    refused = console.refused("attach", domain=1, handle=0, front=f"record:{out}")
    assert refused == "vif1.0 is attached already"
    assert not out.exists()
    console.client().write("/libxl/1/device/vif/5/backend", "x")
    refused = console.refused("attach", domain=1, handle=5, front=f"record:{out}")
    assert refused == "handle 5 of domain 1 is in use: /libxl/1/device/vif/5 exists"
    assert len(console.live.switch.ports) == 1
    assert console.refused("why", domain=2) == "domain 2 has no vif"
    console.do("attach", domain=1)
    assert console.refused("why", domain=1) == (
        "domain 1 has several vifs, and none is named; there are 0, 1"
    )


def test_a_file_is_recorded_to_by_one_port(console: Console, tmp_path: Path) -> None:
    out = tmp_path / "out.pcap"
    console.do("attach", domain=1, front=f"record:{out}")
    for domain, end in ((1, "back"), (2, "front")):
        refused = console.refused("attach", domain=domain, **{end: f"record:{out}"})
        assert "cannot be recorded to" in refused
    console.do("detach", domain=1)
    assert console.do("attach", domain=2, front=f"record:{out}")["connected"]


@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_a_file_that_the_host_would_wait_for_is_refused(
    console: Console, tmp_path: Path, kind: str
) -> None:
    path = tmp_path / kind
    if kind == "pipe":
        os.mkfifo(path)
    else:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(str(path))
    for port in ("pcap", "record"):
        refused = console.refused("attach", domain=1, front=f"{port}:{path}")
        assert refused == f"{path}: is a pipe or socket, which the host would wait for"


def test_a_machine_that_is_full_refuses_a_guest(console: Console) -> None:
    taken = []
    domain, machine = console.host.dom0.domain, console.host.machine
    for count in (1024, 1):
        with suppress(OutOfFramesError):
            while True:
                taken.append(domain.alloc_pages(count))
    store = console.client()
    nodes = [store.directory(path) for path in ("/local/domain", "/libxl", "/vm")]
    # The grant table takes 64; then things fail one after the other.
    for _ in range(63):
        domain.free_pages(taken.pop())
    refused = 0
    while "error" in (answer := console.ask("create")):
        assert "frames" in answer["error"]
        assert [one.domid for one in machine.domains] == [0, 1, 2]
        assert [store.directory(path) for path in ("/local/domain", "/libxl", "/vm")] == nodes
        domain.free_pages(taken.pop())
        refused += 1
    assert refused > 5
    for pages in taken:
        domain.free_pages(pages)


class BrokenPort(BasePort):
    """Works once."""

    def __init__(self) -> None:
        super().__init__("broken:")
        self.calls = 0

    def _call(self) -> None:
        self.calls += 1
        if self.calls > 1:
            raise PortError("broken: does not work any more")

    def pull(self, batch, /) -> int:
        self._call()
        return 0

    def push(self, batch, /) -> None:
        self._call()


def test_a_port_that_fails_ends_neither_the_vif_nor_the_host(console: Console) -> None:
    console.do("attach", domain=1, back="echo:", front="gen:60x1")
    hosted = console.live.vifs[1, 0]
    hosted.front.port = broken = FailingPort(BrokenPort())
    assert hosted.vif.netfront is not None
    edge = hosted.front.endpoint
    edge.endpoint = edge._has_room = broken  # type: ignore[attr-defined]
    vars(edge).pop("push", None)
    for _ in range(3):
        hosted.vif.kick()
        console.rest()
    assert broken.failure == "broken: does not work any more"
    told = console.do("why", domain=1)
    assert told["frontend"]["failure"] == broken.failure
    assert told["why"] == [f"gen:60x1 has failed: {broken.failure}"]
    assert console.do("detach", domain=1)["outcome"] == "done"


def test_a_fault_of_xennet_s_own_is_told_and_the_host_goes_on(
    console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fault(*_: object) -> None:
        raise ZeroDivisionError("a fault")

    monkeypatch.setattr(LiveHost, "attach", fault)
    assert console.refused("attach", domain=1) == "internal error: ZeroDivisionError: a fault"
    monkeypatch.undo()
    monkeypatch.setattr(LiveHost, "detach", lambda *_: None)
    console.do("attach", domain=1)
    assert console.refused("detach", domain=1).startswith("internal error: AttributeError")
    monkeypatch.undo()


# -- the protocol ----------------------------------------------------------------------------------


def test_requests_are_cut_anywhere_and_answered_in_order(console: Console) -> None:
    requests = b"".join(
        encode({"command": name, "arguments": {"domain": 1} if name != "list" else {}})
        for name in ("list", "attach", "why", "detach", "list")
    )
    for byte in requests:
        console.session.receive(bytes([byte]))
    answers = []
    while len(answers) < 5:
        console.rest()
        if console.session.pending:
            answers.append(decode(console.session.take())["result"])
            console.session.resume()
    assert [sorted(answer)[0] for answer in answers] == [
        "directory",
        "backend",
        "backend",
        "forced",
        "directory",
    ]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"\n", "a line that is no JSON"),
        (b"hello\n", "a line that is no JSON"),
        (b"\xff\xfe\n", "a line that is no JSON"),
        (b"[" * 60000 + b"\n", "a line that is no JSON: RecursionError"),
        (b"1" * 60000 + b"\n", "a line that is no JSON"),
        (b"[]\n", "JSON that is no object but of type list"),
        (b"{}\n", "a request without the name of a command: None"),
        (b'{"command": 1}\n', "a request without the name of a command: 1"),
        (b'{"command": "list", "arguments": []}\n', "arguments that are no object: []"),
        (b'{"command": "list", "x": 1}\n', "a request with unknown parts: 'x'"),
        (b" " * (LONGEST + 1), f"a request of more than {LONGEST} bytes"),
    ],
)
def test_a_client_that_sends_garbage_is_told_and_hung_up_on(
    unchanged: Console, line: bytes, reason: str
) -> None:
    session = ControlSession(unchanged.commands.perform)
    session.receive(line + b'{"command": "create"}\n')
    answer = decode(session.take())
    assert answer["error"].startswith(f"no request: {reason}")
    assert session.closed
    session.receive(b'{"command": "create"}\n')
    session.resume()
    assert not session.pending
    assert len(unchanged.do("list")["domains"]) == 3


def test_a_client_that_goes_hears_nothing_and_its_command_is_done(console: Console) -> None:
    session = ControlSession(console.commands.perform)
    session.receive(encode({"command": "attach", "arguments": {"domain": 1}}))
    session.close()
    console.rest()
    console.rest()
    assert not session.pending
    assert vifs(console)["vif1.0"]["connected"]


def test_commands_that_wait_hear_of_the_end(console: Console) -> None:
    console.session.receive(
        encode({"command": "attach", "arguments": {"domain": 1, "back": "other", "wait": 600}})
    )
    console.rest()
    assert not console.session.pending
    console.commands.give_up()
    assert decode(console.session.take()) == {"error": "the host ends"}


# -- a system that has nothing left ----------------------------------------------------------------


def test_a_domain_that_cannot_have_its_sockets_is_none(console: Console) -> None:
    def refuse() -> None:
        raise SocketError("/nowhere: cannot listen there: Too many open files")

    console.commands.changed = refuse
    for command in ({}, {"driver_domain": True, "name": "store"}):
        assert "Too many open files" in console.refused("create", **command)
        console.rest()
        assert [domain["domid"] for domain in console.do("list")["domains"]] == [0, 1, 2]
    assert console.do("destroy", domain=2)["gone"]


def test_sockets_are_closed_before_others_are_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = HostDirectory.at(str(tmp_path / "d"))
    directory.take()
    served = ServedHost(directory, Capacity(guests=4, vifs=4))
    try:
        served.start()
        live = served.live
        old, last = live.create_guest(), live.create_guest()
        served.commands.changed()

        def path(domain: AnyDomain) -> Path:
            return tmp_path / "d" / f"xenstored-{domain.domid}.sock"

        assert path(old).exists()
        open_sockets = ServedHost._open_sockets

        def refuse(self: ServedHost, domain: AnyDomain) -> Daemon | None:
            assert not path(old).exists()
            if domain is new:
                raise SocketError("no more")
            return open_sockets(self, domain)

        monkeypatch.setattr(ServedHost, "_open_sockets", refuse)
        old_is_gone = live.destroy(old)
        live.host.pump.hold(60.0, lambda: live.look() or old_is_gone())
        new, other = live.create_guest(), live.create_guest()
        with pytest.raises(SocketError, match="no more"):
            served.commands.changed()
        assert path(other).exists()
        live.destroy(last)
        live.host.pump.hold(60.0, lambda: last not in live.domains)
        served.commands.look()  # tries again, in vain, and goes on
        assert not path(last).exists()
        monkeypatch.undo()
        served.commands.changed()
        assert path(new).exists()
    finally:
        served.end(lambda: False)
        directory.leave()


# -- clients that are gone -------------------------------------------------------------------------


def test_clients_that_are_gone_while_their_command_waits_keep_no_place(tmp_path: Path) -> None:
    waiting: list[Any] = []
    with closing(Pump(RunLoop(), RealClock())) as pump, ExitStack() as clients:
        path = str(tmp_path / "s")
        server = ControlSocket(path, pump, lambda command, values, answer: waiting.append(answer))
        server.start()
        clients.callback(server.stop)

        def client(number: int) -> socket.socket:
            one = clients.enter_context(socket.socket(socket.AF_UNIX))
            one.connect(path)
            one.sendall(encode({"command": "attach", "arguments": {}}))
            pump.hold(60.0, lambda: len(waiting) == number)
            assert len(waiting) == number
            return one

        first = client(1)
        half = client(2)
        half.shutdown(socket.SHUT_WR)  # it still reads its answer
        for number in range(3, MOST_CLIENTS + 1):
            client(number).close()
        for number in range(MOST_CLIENTS + 1, 2 * MOST_CLIENTS - 1):
            client(number)
            assert server.clients == MOST_CLIENTS
        for answer, one in zip(waiting, (first, half), strict=False):
            answer({"result": {}})
            assert one.recv(100) == encode({"result": {}})
        first.close()
        # Nobody is gone and all wait: the oldest has to go, or nobody could ask any more.
        for number in range(2 * MOST_CLIENTS - 1, 2 * MOST_CLIENTS + 10):
            client(number)
            assert server.clients <= MOST_CLIENTS
