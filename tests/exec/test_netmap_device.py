"""/dev/netmap for a program that was compiled against the recorded layout, and Python's ends."""

from __future__ import annotations

import fcntl
import json
import os
import random
import select
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from errno import EBUSY, EFAULT, EINVAL, ENOENT, ENXIO, EOPNOTSUPP
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import xennet.netmap
from xennet.abi.netmap import NIOCCTRL, NIOCRXSYNC, NIOCTXSYNC
from xennet.abi.netmap_legacy import NIOCGINFO, NIOCREGIF
from xennet.cli import main
from xennet.exec import messages
from xennet.exec.launch import launch, socket_paths
from xennet.exec.netmap_file import NetmapFile
from xennet.exec.server import ExecServer
from xennet.host import Host
from xennet.netmap import Port
from xennet.netmap.module_state import State
from xennet.netmap.net_interface import NetInterface
from xennet.netmap.user.process_device import device_of_process
from xennet.pump import RealClock

HERE = Path(__file__).parent
#: Seconds that only a hang reaches.
PATIENCE = 60.0
#: How a program waits.
HOWS = ("poll", "ppoll", "select", "epoll")


def numbers() -> str:
    """The recorded layout as a C header."""
    abi = json.loads((HERE.parent / "data/netmap_abi.json").read_text())["x86_64_linux"]
    lines = [f"#define {name} {value}" for name, value in abi["constants"].items()]
    lines += [
        f"#define {name} {value}u"
        for name, value in abi["ioctls_hex"].items()
        if name not in abi["constants"]
    ]
    for name, layout in abi["structs"].items():
        lines.append(f"#define SIZE_{name} {layout['sizeof']}")
        lines += [f"#define OFF_{name}_{f['name']} {f['off']}" for f in layout["fields"]]
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="session")
def client(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The path of the program."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler")
    directory = tmp_path_factory.mktemp("netmap")
    (directory / "netmap_numbers.h").write_text(numbers())
    source, built = HERE / "netmap_client.c", directory / "client"
    flags = ["-O2", "-pthread", f"-I{directory}", "-o", str(built)]
    subprocess.run([compiler, *flags, str(source)], check=True)
    return str(built)


class World:
    """A machine whose guest runs programs; the netmap device is that of this process."""

    def __init__(self, program: str) -> None:
        self.program = program
        self.host = Host(clock=RealClock(), shared=True)
        self.directory = tempfile.mkdtemp(prefix="xennet-test-")
        self.server = ExecServer(self.host.machine, self.host.pump, self.host.service.server)
        guest = self.host.add_guest(drivers=None)
        self.domid = guest.domain.domid
        paths = socket_paths(self.directory, self.domid)
        self.server.serve(guest.domain, guest.kernel.grants, *paths)
        self.started: list[Program] = []

    @property
    def state(self) -> State:
        """That of the device."""
        return device_of_process().state

    def start(self, *words: object) -> Program:
        """Start the program with these arguments."""
        self.started.append(Program(self, [str(word) for word in words]))
        return self.started[-1]

    def hold(self, until: Callable[[], bool]) -> None:
        """Keep the machine going until something is so."""
        self.host.pump.hold(PATIENCE, until)
        if not until():
            told = [(one.process.args, one.process.poll(), one.rest()) for one in self.started]
            raise AssertionError(f"it has not come to that in time: {told}")

    def clear(self) -> None:
        """End the programs; everything that they had is gone then."""
        for program in self.started:
            program.kill()
        self.started.clear()
        self.hold(lambda: not self.server.programs and not self.server.files)
        assert not any(switch.active for switch in self.state.switches.all)
        assert list(self.state.regions.by_id) == [1]

    def clear_calls(self) -> None:
        """Forget the process that was a client itself."""
        for program in list(self.server.programs.values()):
            program.unmap_all()
            self.server._ended(program)

    def close(self) -> None:
        for program in self.started:
            program.kill()
        self.server.close()
        self.host.destroy()
        shutil.rmtree(self.directory)


class Program:
    """One running program."""

    def __init__(self, world: World, words: list[str]) -> None:
        self._world = world
        self._told = b""
        self.process = launch(
            [world.program, *words],
            socket_paths(world.directory, world.domid)[0],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self.process.stdout is not None
        self._out = self.process.stdout.fileno()
        os.set_blocking(self._out, False)

    def line(self) -> str:
        """The next line that it prints."""
        pump = self._world.host.pump
        pump.watch(self._out, self._read)
        try:
            self._world.hold(lambda: b"\n" in self._told)
        finally:
            pump.unwatch(self._out)
        line, _, self._told = self._told.partition(b"\n")
        return line.decode()

    def _read(self) -> None:
        got = os.read(self._out, 1 << 16)
        assert got, f"the program has ended: {self.process.poll()}"
        self._told += got

    def rest(self) -> bytes:
        """What it has printed and nobody has read."""
        with suppress(BlockingIOError):
            self._told += os.read(self._out, 1 << 16)
        return self._told

    def go_on(self) -> None:
        """Give it a line."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        """SIGKILL. May be repeated."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()


@pytest.fixture(scope="module")
def machine(client: str) -> Iterator[World]:
    made = World(client)
    yield made
    made.close()


@pytest.fixture
def world(machine: World) -> Iterator[World]:
    yield machine
    machine.clear()


def frame(number: int, length: int = 60) -> bytes:
    head = bytes.fromhex("ffffffffffff 020000000001 88b5") + number.to_bytes(8, "little")
    return head.ljust(length, b"\0")


def send(world: World, port: Port, count: int) -> None:
    """Send numbered frames as there is room."""
    ring, sent = port.tx_rings[0], 0

    def some() -> bool:
        nonlocal sent
        port.txsync()
        while sent < count and ring.space:
            ring[ring.head].put(frame(sent))
            ring.hand_over()
            sent += 1
        port.txsync()
        return sent == count

    world.hold(some)


def receive(world: World, port: Port, count: int) -> list[int]:
    """The numbers of so many frames that come."""
    found: list[int] = []
    ring = port.rx_rings[0]

    def some() -> bool:
        port.rxsync()
        taken = [int.from_bytes(slot.data[14:22], "little") for slot in ring.owned()]
        found.extend(taken)
        ring.hand_over(len(taken))
        port.rxsync()  # gives the slots back: nothing else may happen before there is room
        return len(found) >= count

    world.hold(some)
    return found


def in_order(count: int) -> list[int]:
    return list(range(count))


@pytest.mark.parametrize("how", HOWS)
def test_frames_through_a_pipe_both_ways(world: World, how: str) -> None:
    with xennet.netmap.open("netmap:there}1") as port:
        sender = world.start("send", "there{1", 5000, how)
        assert receive(world, port, 5000) == in_order(5000)
        assert sender.line() == "sent 5000"
    with xennet.netmap.open("netmap:back{1") as port:
        receiver = world.start("receive", "back}1", 3000, how)
        assert receiver.line() == "ready"
        send(world, port, 3000)
        assert receiver.line() == "received 3000, 0 wrong"


def test_two_programs_on_a_pipe(world: World) -> None:
    receiver = world.start("receive", "both}x", 20_000)
    assert receiver.line() == "ready"
    sender = world.start("send", "both{x", 20_000)
    assert sender.line() == "sent 20000"
    assert receiver.line() == "received 20000, 0 wrong"


def test_a_switch(world: World) -> None:
    with xennet.netmap.open("vale3:here") as port:
        receiver = world.start("receive", "vale3:there", 500)
        assert receiver.line() == "ready"
        send(world, port, 500)
        assert receiver.line() == "received 500, 0 wrong"
        sender = world.start("send", "vale3:another", 500)
        assert sender.line() == "sent 500"
        assert receive(world, port, 500) == in_order(500)


def test_an_interface(world: World) -> None:
    seen: list[bytes] = []

    def transmit(data: bytes, sent: Callable[[], None]) -> bool:
        seen.append(data)
        sent()
        return True

    interface = world.state.add_interface(NetInterface("nm0", transmit=transmit))
    try:
        sender = world.start("send", "nm0", 2000)
        assert sender.line() == "sent 2000"
        assert seen == [frame(i) for i in range(2000)]
        receiver = world.start("receive", "nm0", 3)
        assert receiver.line() == "ready"
        for i in range(3):
            interface.arrives(frame(i))
        assert receiver.line() == "received 3, 0 wrong"
    finally:
        world.clear()
        del world.state.interfaces["nm0"]


@pytest.mark.parametrize("how", ["sleeping", "events"])
def test_a_kernel_loop_holds_its_thread_only(world: World, how: str) -> None:
    with xennet.netmap.open("netmap:loop}1") as port:
        program = world.start("kloop", "loop{1", 1000, how)
        assert receive(world, port, 1000) == in_order(1000)
        told = f"1000 frames, running 1, start returned 0, txsync -1 {EBUSY}"
        assert program.line() == told


def test_a_program_that_is_killed_in_a_kernel_loop(world: World) -> None:
    with xennet.netmap.open("netmap:kill}1") as port:
        program = world.start("kloop", "kill{1", 1_000_000, "events")
        receive(world, port, 200)
        loops = world.state.loops
        program.kill()
        world.hold(lambda: not world.server.files)
        assert world.state.loops == loops
        world.hold(lambda: world.host.machine.run_loop.idle)


def test_a_descriptor_that_is_passed_on(world: World) -> None:
    with xennet.netmap.open("vale3:here") as port:
        program = world.start("pass", "vale3:pass")
        assert receive(world, port, 3) == in_order(3)
        ring = port.tx_rings[0]  # the child waits for a frame
        ring[ring.head].put(frame(0))
        ring.hand_over()
        port.txsync()
        assert program.line() == "child 0"


def test_what_is_refused(world: World) -> None:
    program = world.start("odd", "vale3:odd")
    unbound = [ENXIO, EFAULT, EFAULT, EOPNOTSUPP, EINVAL, EINVAL]
    found = program.line().split()
    assert found[:6] == [f"-{errno}" for errno in unbound]
    assert found[6:9] == ["poll", "1", str(select.POLLERR)]
    assert found[9:12] == [f"-{errno}" for errno in (EBUSY, ENXIO, EINVAL)]
    assert found[12:] == ["poll", "0", "0", "1", str(select.POLLOUT), str(ENOENT)]


def test_the_old_ioctls(world: World) -> None:
    with xennet.netmap.open("vale3:here") as port:
        program = world.start("legacy", "vale3:old")
        assert receive(world, port, 3) == in_order(3)
        assert program.line() == "1024 slots sent"


@pytest.mark.parametrize("how", ["private", "shared"])
def test_memory_of_the_program(world: World, how: str) -> None:
    with xennet.netmap.open("vale3:here") as port:
        program = world.start("extmem", "vale3:ext", 0, how)
        assert receive(world, port, 3) == in_order(3)
        assert program.line() == "sent, first word 1"


def test_a_mapping_keeps_the_port(world: World) -> None:
    program = world.start("keep", "vale3:kept")
    assert program.line() == "closed"
    assert world.state.switches.find("vale3:kept")
    program.go_on()
    assert program.line() == "unmapped"
    assert not world.state.switches.find("vale3:kept")


@pytest.mark.parametrize("what", ["hold", "sleep"])
def test_a_program_that_is_killed(world: World, what: str) -> None:
    with xennet.netmap.open("vale3:here") as port:
        program = world.start(what, "vale3:killed", 0)
        assert program.line() == "ready"
        if what == "hold":
            receive(world, port, 500)
        os.kill(program.process.pid, signal.SIGKILL)
        world.hold(lambda: not world.server.files)
        assert not world.state.switches.find("vale3:killed") or port.kernel_name == "vale3:here"
        send(world, port, 10)


def test_a_sleeper_is_woken(world: World) -> None:
    with xennet.netmap.open("vale3:here") as port:
        hows = (*HOWS, "twice")
        sleepers = [world.start("sleep", f"vale3:s{i}", 0, how) for i, how in enumerate(hows)]
        for sleeper in sleepers:
            assert sleeper.line() == "ready"
        send(world, port, 1)
        for sleeper in sleepers:
            assert sleeper.line() == "woken 1"


def test_a_thread_that_has_ended_is_not_kept(world: World) -> None:
    with xennet.netmap.open("vale3:here") as port:
        sleeper = world.start("sleep", "vale3:s", 0, "poll")
        assert sleeper.line() == "ready"
        (file,) = world.server.files.values()
        assert isinstance(file.device, NetmapFile)
        sleeping = file.device._sleeping
        world.hold(lambda: len(sleeping) == 1)
        (client,) = world.server.programs.values()
        with socket.socket(fileno=world.server.wakers.new()) as another:
            cookie = int.from_bytes(another.getsockopt(socket.SOL_SOCKET, 57, 8), "little")
            assert not file.device.poll(client, select.POLLIN, world.server.wakers.by(cookie))
            assert len(sleeping) == 2
        world.hold(lambda: len(sleeping) == 1)
        send(world, port, 1)
        assert sleeper.line() == "woken 1"
        assert not sleeping


def test_a_child_has_what_its_parent_had(world: World) -> None:
    with xennet.netmap.open("netmap:child}1") as port:
        program = world.start("fork", "child{1", 5000)
        world.hold(lambda: program.process.poll() is not None)
        assert receive(world, port, 5000) == in_order(5000)
        assert program.line() == "sent"


def test_threads_sleep_while_another_sends(world: World) -> None:
    with xennet.netmap.open("netmap:threads}1") as port:
        program = world.start("threads", "threads{1", 5000)
        assert receive(world, port, 5000) == in_order(5000)
        assert program.line() == "sent"
        send(world, port, 1)
        assert program.line() == "woken"


def test_kills_at_any_time(world: World) -> None:
    chance = random.Random(7)
    with xennet.netmap.open("vale3:here") as port, xennet.netmap.open("netmap:kills}1") as end:
        for _ in range(6):
            programs = [world.start("hold", name) for name in ("vale3:k", "kills{1")]
            for program in programs:
                program.line()
            receive(world, chance.choice((port, end)), chance.randrange(1, 2000))
            world.host.pump.turn()
            for program in programs:
                program.kill()
            world.started.clear()
            world.hold(lambda: not world.server.programs and not world.server.files)
            for one in (port, end):
                one.rxsync()
                one.rx_rings[0].hand_over(one.rx_rings[0].space)
                one.rxsync()
        assert world.state.switches.find("vale3:here")


_NUMBERS = st.integers(0, 0xFFFFFFFF) | st.sampled_from(
    [NIOCCTRL, NIOCTXSYNC, NIOCRXSYNC, NIOCREGIF, NIOCGINFO, 1, 4, 5]
)
_WORDS = st.integers(0, (1 << 64) - 1) | st.integers(0, 1 << 20)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    calls=st.lists(
        st.tuples(st.integers(2, 9), _NUMBERS, st.tuples(*[_WORDS] * 4), st.binary(max_size=99)),
        max_size=8,
    )
)
def test_any_message_is_answered(
    world: World, calls: list[tuple[int, int, tuple[int, ...], bytes]]
) -> None:
    """What a shim never sends, from a process that is a client of its own server."""
    pump = world.host.pump
    path = socket_paths(world.directory, world.domid)[0]
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
        client.connect(path)
        client.setblocking(False)

        def asked(message: bytes) -> tuple[bytes, list[int]]:
            client.send(message)
            for _ in range(4):
                pump.turn()
                pump.run()
            data, fds, _, _ = socket.recv_fds(client, 1 << 16, 4)
            assert len(data) >= messages.ANSWER.size
            return data, fds

        _, fds = asked(messages.REQUEST.pack(messages.OP_OPEN, 2, 0, 0, 0, 0, 0) + b"/dev/netmap")
        raw = socket.socket(fileno=os.dup(fds[0]))
        cookie = int.from_bytes(raw.getsockopt(socket.SOL_SOCKET, 57, 8), "little")
        raw.close()
        for op, arg, words, data in calls:
            if op == messages.OP_CRASH:
                continue
            fds += asked(messages.REQUEST.pack(op, arg, cookie, *words) + data)[1]
        for fd in fds:
            os.close(fd)
    world.hold(lambda: not world.server.connections)
    world.clear_calls()


@pytest.fixture
def tap() -> Iterator[str]:
    """The name of a TAP interface that nobody reads."""
    try:
        fd = os.open("/dev/net/tun", os.O_RDWR)
    except OSError as e:
        pytest.skip(f"no TAP interfaces: {e}")
    try:
        made = fcntl.ioctl(fd, 0x400454CA, struct.pack("16sH22x", b"", 0x1002))  # TUNSETIFF
        yield made[:16].rstrip(b"\0").decode()
    except PermissionError as e:
        pytest.skip(f"no TAP interfaces: {e}")
    finally:
        os.close(fd)


def test_an_interface_of_linux(world: World, tap: str) -> None:
    program = world.start("send", tap, 2000)
    assert program.line() == "sent 2000"
    assert tap in world.state.interfaces


def test_on_a_machine_of_its_own(client: str, tmp_path: Path) -> None:
    told = tmp_path / "told"
    script = f"{client} send 'x{{1' 3000 & {client} receive 'x}}1' 3000 > {told}; wait"
    assert main(["exec", "--", "sh", "-c", script]) == 0
    assert told.read_text().endswith("received 3000, 0 wrong\n")
