"""Processes that end, crash, are killed; domains that go; who sees what."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
from exec_world import BOTH, EVTCHN, GNTALLOC, GNTDEV, PATIENCE, SHARED, World, refused

from xennet.abi.linux_xen import IOCTL_GNTDEV_MAP_GRANT_REF
from xennet.abi.sched import SHUTDOWN_crash
from xennet.cli import main
from xennet.exec import messages, shim
from xennet.exec.client_memory import address_of
from xennet.exec.devices import Later
from xennet.exec.errors import ExecError
from xennet.exec.launch import socket_paths
from xennet.memory import FREE
from xennet.observe import ProgramCall


def test_with_a_crash_everything_stays_until_the_domain_is_destroyed(world: World) -> None:
    program = world.caller()
    world.server.crashes_with(2, program.process.pid)
    page, gref = world.page()
    page.u8[0] = 1
    port = world.kernel.alloc_unbound(2)
    fd, channels = program.open(GNTDEV), program.open(EVTCHN)
    program.bind(channels, 1, port)
    offset = program.map_grants(fd, [(1, gref)])
    program.notify_at_unmap(fd, offset, 1)
    program.mmap(fd, offset)
    program.open(GNTALLOC)
    program.end()
    info = world.host.machine.domain_info(2)
    assert info is not None
    assert info.shutdown == SHUTDOWN_crash
    assert world.in_use(gref)
    assert page.u8[0] == 1, "nothing is cleared"
    world.guests[1].destroy()
    world.hold(lambda: not world.in_use(gref))
    world.kernel.close_port(port)
    world.give_back(page, gref)


def test_no_program_crashes_domain_0(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(PermissionError):
        world.server.crashes_with(0, os.getpid())
    for words in ([], ["--host", str(tmp_path)]):
        assert main(["exec", *words, "--domain", "0", "--crash", "true"]) == 2
        said = capsys.readouterr().err
        assert "--crash: a crash of domain 0 is the machine's" in said
        assert "no domain 0" not in said


def test_the_programs_of_a_domain_that_is_destroyed_are_killed(world: World) -> None:
    program = world.caller()
    fd = program.open(GNTALLOC)
    offset, _ = program.alloc(fd, 1)
    program.mmap(fd, offset)
    world.guests[1].destroy()
    world.hold(lambda: not world.server.programs)
    assert program.process.wait() == -signal.SIGKILL
    world.settle()
    assert world.host.machine.domain_info(2) is None, "its pages are freed when they are unmapped"


def test_a_call_of_a_process_that_has_ended_is_not_made(world: World) -> None:
    """Its end is seen between the message and the delivery."""
    page, gref = world.page()
    parent = world.caller()
    fd = parent.open(GNTDEV)
    known = set(world.pids)
    child = parent  # it speaks for the child until that ends
    child.ask("fork")
    offset = child.map_grants(fd, [(1, gref)])
    (pid,) = world.pids - known
    child.tell("mmap", 0, 4096, BOTH, SHARED, fd, offset)
    while world.host.machine.run_loop.idle:
        world.host.pump.turn()
    os.kill(pid, signal.SIGKILL)
    while pid in world.pids:
        world.host.pump.turn()
    world.settle()
    parent.ask("close", fd)
    world.hold(lambda: not world.server.files)
    world.give_back(page, gref)


def test_nothing_is_done_for_a_process_whose_number_may_be_anothers(
    world: World,
) -> None:
    """Somebody has waited for it before the machine saw its end."""
    program = world.caller()
    fd = program.open(GNTDEV)
    program.tell("ioctl", fd, IOCTL_GNTDEV_MAP_GRANT_REF, bytes(24).hex())
    run_loop = world.host.machine.run_loop
    while run_loop.idle:
        world.host.pump.turn()
    program.kill()
    run_loop.deliver()
    assert world.server.calls == {(GNTDEV, "open"): 1}


def test_the_memory_of_a_process_that_has_ended_is_no_more_there(world: World) -> None:
    mine = bytearray(b"mine")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as here:
        here.connect(socket_paths(world.directory, 2)[0])
        world.hold(lambda: os.getpid() in world.pids)
        (program,) = world.server.programs.values()
        assert program.memory.read(address_of(mine), 4) == b"mine"
        world.server.end(2)  # as if it had ended
    with refused(errno.EFAULT):
        program.memory.read(address_of(mine), 4)
    with refused(errno.EFAULT):
        program.memory.write(address_of(mine), b"none")
    assert (mine, program.pidfd) == (b"mine", -1)


def test_where_no_descriptor_is_left_no_long_call_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(socket, "socketpair", full)
    with refused(errno.EMFILE):
        Later()


def test_a_frame_that_a_process_sees_gets_no_other_owner(world: World) -> None:
    """Its domain is destroyed, and the process not gone yet: it is stopped."""
    program = world.caller()
    fd = program.open(GNTALLOC)
    offset, _ = program.alloc(fd, 1)
    program.mmap(fd, offset)
    (mapping,) = [view.mapping for one in world.server.programs.values() for view in one.views]
    assert mapping.frames is not None
    (frame,) = mapping.frames
    memory = world.host.machine.memory
    world.host.machine.destroy_domain(2)
    assert memory.owner[frame] not in (2, FREE)
    world.hold(lambda: not world.server.programs)
    assert memory.owner[frame] == FREE
    program.kill()


def test_a_process_of_two_domains_is_two_programs(world: World) -> None:
    ours, theirs = world.caller(1), world.caller(2)
    assert ours.open(GNTDEV) == theirs.open(GNTDEV)
    assert {domid for domid, _ in world.server.programs} == {1, 2}


def test_calls_are_seen(world: World) -> None:
    seen: list[ProgramCall] = []
    world.host.machine.observers.subscribe(seen.append, ProgramCall)
    program = world.caller()
    fd = program.open(GNTDEV)
    program.map_grants(fd, [(1, 8)])
    with refused(errno.EINVAL):
        program.mmap(fd, 0)
    pid = program.process.pid
    assert seen == [
        ProgramCall(2, pid, GNTDEV, "open", 0),
        ProgramCall(2, pid, GNTDEV, "IOCTL_GNTDEV_MAP_GRANT_REF", 0),
        ProgramCall(2, pid, GNTDEV, "mmap", -errno.EINVAL),
    ]


def test_calls_are_counted_under_names_that_no_program_makes_up(world: World) -> None:
    program = world.caller()
    fd = program.open(GNTDEV)
    for number in range(3):
        with refused(errno.ENOENT):
            program.open(f"/dev/xen/{number}")
        with refused(errno.ENOTTY):
            program.ioctl(fd, 0x4700 + 0x80 + number)
    assert world.server.refused == {
        ("other", "open", errno.ENOENT): 3,
        (GNTDEV, "other", errno.ENOTTY): 3,
    }
    assert world.server.calls == {
        (GNTDEV, "open"): 1,
        ("other", "open"): 3,
        (GNTDEV, "other"): 3,
    }


def test_a_call_that_cannot_be_answered_at_once_gets_a_delivery(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def at_once(*_: object) -> int:
        raise OSError(errno.EMFILE, "no descriptor is left")

    program = world.caller()
    program.open(GNTDEV)
    (cookie,) = world.server.files
    monkeypatch.setattr(world.server.files[cookie].device, "polled", True)
    monkeypatch.setattr(world.server.files[cookie].device, "at_once", at_once)
    (one,) = world.server.programs.values()
    request = messages.REQUEST.pack(messages.OP_POLL, 1, cookie, 0, 0, 0, 0)
    assert world.server.at_once(one, request) is None


def test_a_program_opens_so_many_files_and_others_go_on(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xennet.exec.server.MOST_FILES", 3)
    greedy, other = world.caller(), world.caller()
    fds = [greedy.open(GNTDEV) for _ in range(3)]
    with refused(errno.EMFILE):
        greedy.open(EVTCHN)
    other.open(EVTCHN)
    greedy.ask("close", fds[0])
    world.hold(lambda: len(world.server.files) == 3)
    greedy.open(EVTCHN)


def test_a_program_has_so_many_connections(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xennet.exec.server.MOST_CONNECTIONS", 2)
    with ExitStack() as stack:
        many = [
            stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
            for _ in range(3)
        ]
        for number, one in enumerate(many):
            one.connect(socket_paths(world.directory, 2)[0])
            world.hold(lambda number=number: len(world.server.connections) == min(number + 1, 2))
        over: list[bytes] = []
        world.hold(lambda: bool(over), many[2].fileno(), lambda: over.append(many[2].recv(64)))
        assert over == [b""]
        assert len(world.server.connections) == 2
    world.server.end(2)


def test_where_no_descriptor_is_left_a_program_waits_and_nothing_spins(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    accept = socket.socket.accept
    tried: list[int] = []

    def full(listening: socket.socket) -> object:
        tried.append(listening.fileno())
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr("xennet.exec.server.ACCEPT_AGAIN", 3600 * 10**9)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as one:
        monkeypatch.setattr(socket.socket, "accept", full)
        one.connect(socket_paths(world.directory, 1)[0])
        world.hold(lambda: bool(tried))
        for _ in range(20):
            world.settle()
        assert len(tried) == 1, "nothing asks again and again"
    monkeypatch.setattr("xennet.exec.server.ACCEPT_AGAIN", 1)
    program = world.caller()
    program.tell("open", GNTDEV, 2)
    world.hold(lambda: len(tried) > 1)
    monkeypatch.setattr(socket.socket, "accept", accept)
    assert program.answer()[0] > 0


def test_other_paths_do_not_exist(world: World) -> None:
    program = world.caller()
    for path in ("/dev/xen/hypercall", "/proc/xen/xsd_port", "/dev/xen/" + "x" * 300):
        with refused(errno.ENOENT):
            program.open(path)
    with refused(errno.ENOENT):
        program.ask("access", "/dev/xen/hypercall")
    assert program.ask("access", "/dev/xen/xenbus") == 0
    fd = program.open("/proc/xen/capabilities")
    assert program.fetch("read", fd, 64) == b""
    control = world.caller(0)
    fd = control.open("/proc/xen/capabilities")
    assert control.fetch("read", fd, 64) + control.fetch("read", fd, 64) == b"control_d\n"


def test_the_store_is_the_domains_own(world: World) -> None:
    program = world.caller()
    fd = program.open("/dev/xen/xenbus")
    request = b"".join(word.to_bytes(4, "little") for word in (2, 7, 0, 6)) + b"domid\0"
    program.ask("write", fd, request[:10].hex())
    program.ask("write", fd, request[10:].hex())
    answer = program.fetch("read", fd, 64)
    assert (answer[:8], answer[16:]) == (request[:8], b"2")
    program.ask("close", fd)


def test_messages_that_are_nonsense_end_the_connection_and_nothing_else(world: World) -> None:
    program = world.caller()
    fd = program.open(GNTDEV)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as hostile:
        hostile.connect(socket_paths(world.directory, 2)[0])
        hostile.send(b"x")
        world.hold(lambda: os.getpid() in world.pids)
        hostile.settimeout(PATIENCE)
        world.hold(lambda: not any(c.program.pid == os.getpid() for c in world.server.connections))
        assert hostile.recv(64) == b""
    assert program.map_grants(fd, [(1, 8)]) == 0
    world.server.end(2)  # this process, which has connected, is not killed with the others
    assert program.process.wait() == -signal.SIGKILL


def test_a_program_on_a_host_that_is_gone_is_killed(world: World) -> None:
    words = ["--host", world.directory, "--domain", "2", "--", world.program]
    command = subprocess.Popen(
        [sys.executable, "-m", "xennet", "exec", *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )
    try:
        assert command.stdin is not None
        command.stdin.write(f"open {GNTDEV} 2\n".encode())
        command.stdin.flush()
        served = world.server.domains[2]
        assert served.store is not None
        world.hold(lambda: bool(world.server.files) and served.store.clients == 1)
        served.store.stop()
        ended = os.pidfd_open(command.pid)
        over: list[int] = []
        world.hold(lambda: bool(over), ended, lambda: over.append(1))
        os.close(ended)
        assert command.wait() == 128 + signal.SIGKILL
    finally:
        command.kill()
        command.communicate()


def test_no_compiler_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(ExecError, match="a C compiler is needed"):
        shim.shim_path()


def test_the_shim_is_built_once_by_many(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XENNET_CACHE_DIR", str(tmp_path))
    code = "from xennet.exec.shim import shim_path; print(shim_path())"
    many = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    paths = {one.communicate()[0].strip() for one in many}
    assert len(paths) == 1
    assert os.listdir(str(tmp_path)) == [os.path.basename(paths.pop())]


@pytest.mark.parametrize(
    ("script", "code"), [("test -e /dev/xen/evtchn && exit 7", 7), ("kill -9 $$", 137)]
)
def test_the_exit_code_is_the_programs(caller: str, script: str, code: int) -> None:
    assert main(["exec", "--", "sh", "-c", script]) == code


@pytest.mark.parametrize("words", [["/nonexistent"], ["--host", "/nonexistent", "x"]])
def test_no_program_is_one_line(
    caller: str, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["exec", *words]) == 2
    assert "/nonexistent" in capsys.readouterr().err.splitlines()[0]
