"""``xennet run --xenstore-socket``: other programs look at the store of a run while it lasts."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import pytest

from xennet.abi.xs_wire import XS_READ, XS_WATCH, XS_WATCH_EVENT, XS_WRITE
from xennet.cli import main
from xennet.link.vif import VifLink
from xennet.port import open_ports
from xennet.pump import Pump
from xennet.xenstore import Client
from xennet.xenstore.wire import Decoder, Message, encode

BACKEND = "/local/domain/0/backend/vif/1/0"
FRONTEND = "/local/domain/1/device/vif/0"
_SECONDS = 60


class SocketClient:
    """A client of the socket in the same thread: it never waits."""

    def __init__(self, path: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)
        self.socket.setblocking(False)
        self._decoder = Decoder()

    def close(self) -> None:
        self.socket.close()

    def send(self, kind: int, payload: bytes) -> None:
        self.socket.sendall(encode(kind, 1, 0, payload))

    def receive(self) -> list[Message]:
        messages = []
        try:
            while data := self.socket.recv(65536):
                messages += self._decoder.feed(data)
        except BlockingIOError:
            pass
        return messages


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "xs.sock")


@pytest.fixture
def link(path: str) -> Iterator[VifLink]:
    link = VifLink(*open_ports(["null:", "null:"]))
    link.serve_store(path)
    link.open()
    yield link
    link.destroy()


def served(link: VifLink, client: SocketClient, messages: int) -> list[Message]:
    """Hold the link until so many messages have come to ``client``. Returns all that came."""
    came: list[Message] = []

    def all_there() -> bool:
        came.extend(client.receive())
        return len(came) >= messages

    link.hold(_SECONDS, all_there)
    return came


Look = Callable[[], SocketClient]


@pytest.fixture
def look(path: str) -> Iterator[Look]:
    """Connects one more client each time."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(closing(SocketClient(path)))


def test_the_store_can_be_read_while_the_vif_is_connected(
    link: VifLink, look: Look, path: str
) -> None:
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    client = look()
    client.send(XS_READ, f"{BACKEND}/state\0".encode())
    assert served(link, client, 1) == [Message(XS_READ, 1, 0, b"4")]


def test_a_client_may_make_a_device_that_nobody_plugged(link: VifLink, look: Look) -> None:
    client = look()
    client.send(XS_WRITE, b"/local/domain/1/device/vif/7/state\x001")
    client.send(XS_WRITE, b"/local/domain/0/backend/vif/1/9/state\x001")
    assert [message.payload for message in served(link, client, 2)] == [b"OK\0", b"OK\0"]
    link.carry()
    link.close()
    assert not link.leaks(), str(link.leaks())


def test_the_store_names_the_ring_that_the_guest_really_has(link: VifLink) -> None:
    ring = link.machine.domain(1).store_ring
    root = link.service.connect(link.machine.domain(0))
    assert root.read("/local/domain/1/store/ring-ref") == b"%d" % ring.gfn
    assert root.read("/local/domain/1/store/port") == b"%d" % ring.port
    assert ring.server_port is not None


def test_what_clients_write_reaches_the_drivers_and_watches_the_clients(
    link: VifLink, look: Look
) -> None:
    client = look()
    client.send(XS_WATCH, f"{FRONTEND}/state\0t\0".encode())
    client.send(XS_WRITE, f"{BACKEND}/state\0".encode() + b"5")
    netfront = link.netfront
    assert netfront is not None
    link.hold(_SECONDS, lambda: not netfront.carrier)
    kinds = [message.type for message in served(link, client, 4)]
    assert kinds.count(XS_WATCH_EVENT) >= 2  # at first, and when netfront closed
    assert not netfront.carrier


def test_unplugging_is_seen_and_the_socket_goes_with_the_run(
    link: VifLink, look: Look, path: str
) -> None:
    client = look()
    client.send(XS_WATCH, f"{BACKEND}\0t\0".encode())
    assert len(served(link, client, 2)) == 2
    link.close()
    events = [m.payload.split(b"\0")[0].decode() for m in client.receive()]
    assert f"{BACKEND}/state" in events
    assert events[-1] == BACKEND
    assert not link.leaks()
    link.destroy()
    assert not os.path.exists(path)
    assert client.socket.recv(1) == b""


def test_a_client_that_dies_in_the_middle_of_a_message_stops_nobody(
    link: VifLink, look: Look
) -> None:
    dead = look()
    dead.socket.sendall(encode(XS_READ, 1, 0, b"/tool\0")[:11])
    link.hold(0.02)
    dead.close()
    client = look()
    client.send(XS_READ, b"/tool\0")
    assert len(served(link, client, 1)) == 1
    link.close()


def test_those_who_look_at_a_paced_run_can_read_each_state_of_a_handshake(
    path: str, look: Callable[[], SocketClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    link, states = VifLink(*open_ports(["null:", "null:"])), []

    def turn(pump: Pump, seconds: float) -> None:
        """Instead of the wait: the clients have their turns until they want nothing more."""
        assert seconds == 60.0
        pump.sleep(0)
        while messages := client.receive():
            for message in messages:
                if message.type == XS_WATCH_EVENT:
                    client.send(XS_READ, message.payload.split(b"\0")[0] + b"\0")
                elif message.type == XS_READ:
                    states.append(int(message.payload))
            pump.sleep(0)

    link.serve_store(path, pace=60.0)
    client = look()
    for end in (FRONTEND, BACKEND):
        client.send(XS_WATCH, f"{end}/state\0t\0".encode())
    served(link, client, 4)
    monkeypatch.setattr(Pump, "serve", turn)
    try:
        link.open()
        assert states == [1, 1, 2, 4, 4]
        states.clear()
        link.close()
        assert states == [5, 6, 6, 6]  # the backend shows Closing and Closed in one turn
    finally:
        link.destroy()


def test_a_run_that_nobody_looks_at_is_not_paced(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pump, "serve", lambda *_: pytest.fail("waited for nobody"))
    link = VifLink(*open_ports(["null:", "null:"]))
    link.serve_store(path, pace=60.0)
    link.open()
    link.close()
    link.destroy()


# The command


ARGS = ["run", "--guest", "gen:60x10", "--host", "null:"]


def test_a_run_with_a_socket_reports_as_without_and_removes_it(path: str, capsys) -> None:
    assert main([*ARGS, "--xenstore-socket", path]) == 0
    assert not os.path.exists(path)
    assert f"XenStore on {path}" in capsys.readouterr().err


def test_a_client_that_writes_without_end_does_not_keep_a_run_from_its_end(path: str) -> None:
    over = threading.Event()

    def write_on() -> None:
        while not os.path.exists(path) and not over.wait(0.01):
            pass
        with socket.socket(socket.AF_UNIX) as client, suppress(OSError):
            client.connect(path)
            while True:
                client.sendall(encode(XS_WRITE, 1, 0, f"{FRONTEND}/noise\0".encode()))
                client.recv(65536)

    writer = threading.Thread(target=write_on)
    writer.start()
    code = main([*ARGS, "--quiet", "--xenstore-socket", path, "--hold", "0.3"])
    over.set()
    writer.join(_SECONDS)
    assert (code, writer.is_alive()) == (0, False)


@pytest.mark.parametrize("option", ["--hold", "--hold-before"])
def test_hold_needs_a_socket(option: str, capsys) -> None:
    assert main([*ARGS, option, "1"]) == 2
    assert f"{option} is for looking at the store: it needs --xenstore" in capsys.readouterr().err


def test_a_place_where_something_else_is_is_refused(path: str, capsys) -> None:
    Path(path).write_text("precious")
    assert main([*ARGS, "--xenstore-socket", path]) == 2
    assert path in capsys.readouterr().err
    assert Path(path).read_text() == "precious"


def test_a_socket_that_is_served_is_refused(link: VifLink, path: str, capsys) -> None:
    assert main([*ARGS, "--xenstore-socket", path]) == 2
    assert path in capsys.readouterr().err
    assert os.path.exists(path)


def held(path: str) -> subprocess.Popen[str]:
    """A run that has been connected and is being held."""
    run = subprocess.Popen(
        [sys.executable, "-m", "xennet", *ARGS, "--xenstore-socket", path, "--hold", "60"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "XENNET_ENGINE": "plain"},
    )
    assert run.stderr is not None
    assert run.stderr.readline() == f"XenStore on {path}\n"
    assert "stays connected" in run.stderr.readline()
    return run


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 128 + signal.SIGTERM), (signal.SIGINT, 130)]
)
def test_a_person_can_look_and_an_interrupt_removes_the_socket(
    path: str, number: signal.Signals, code: int
) -> None:
    run = held(path)
    try:
        with Client.connect(path, timeout=_SECONDS) as client:
            assert client.read(f"{FRONTEND}/state") == b"4"
        if (tool := shutil.which("xenstore-ls")) is not None:
            env = {**os.environ, "XENSTORED_PATH": path}
            shown = subprocess.run([tool, "-f", "/"], env=env, capture_output=True, text=True)
            assert f'{BACKEND}/state = "4"' in shown.stdout
        run.send_signal(number)
        _, stderr = run.communicate(timeout=_SECONDS)
    finally:
        run.kill()
    assert run.returncode == code
    assert "Traceback" not in stderr
    assert not os.path.exists(path)


def test_hold_ends_by_itself(link: VifLink) -> None:
    started = time.monotonic()
    link.hold(0.1)
    assert time.monotonic() - started >= 0.1
    link.close()
