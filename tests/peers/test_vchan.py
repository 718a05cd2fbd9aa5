"""libxenvchan: two processes as two domains that share memory."""

from __future__ import annotations

import os
import select
import socket

import pytest
from peer_world import PeerWorld

from xennet.bench.real_xenstored import Prepared

DATA = "/local/domain/1/data/vchan"


@pytest.mark.parametrize(("client", "ring"), [(2, 4096), (2, 65536), (0, 1024)])
def test_three_megabytes_arrive(world: PeerWorld, vchan: str, client: int, ring: int) -> None:
    for _ in range(2):
        world.add_guest()
    words = [DATA, "3000000", str(ring)]
    world.succeed(
        world.launch(1, [vchan, "server", str(client), *words]),
        world.launch(client, [vchan, "client", "1", *words]),
    )


def test_a_client_that_ends_without_a_word_is_noticed(world: PeerWorld, vchan: str) -> None:
    """Unmapping clears its byte in the shared page and sends the event."""
    for _ in range(2):
        world.add_guest()
    words = [DATA, "3000000", "4096"]
    server = world.launch(1, [vchan, "server", "2", *words])
    client = world.launch(2, [vchan, "client", "1", *words, "abort"])
    world.wait_for(server, client)
    assert (server.returncode, client.returncode) == (2, 4), world.output(server)
    assert "bytes, then" in world.output(server)


def test_a_server_that_is_killed_is_noticed(world: PeerWorld, vchan: str) -> None:
    """Its pages stay with the client until that lets go of them."""
    for _ in range(2):
        world.add_guest()
    words = [DATA, "4000000000", "4096"]
    server = world.launch(1, [vchan, "server", "2", *words])
    client = world.launch(2, [vchan, "client", "1", *words])
    world.hold(lambda: ("/dev/xen/evtchn", "IOCTL_EVTCHN_NOTIFY") in world.server.calls)
    world.kill(server)
    world.wait_for(client)
    assert client.returncode == 2, world.output(client)


def test_debians_proxy_takes_a_socket_to_a_socket(world: PeerWorld, xen_utils: Prepared) -> None:
    for _ in range(2):
        world.add_guest()
    proxy = str(xen_utils.daemon.with_name("vchan-socket-proxy"))
    env = {**os.environ, "LD_LIBRARY_PATH": str(xen_utils.libraries)}
    left, right = (str(world.directory / name) for name in ("left", "right"))
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(right)
    listening.listen(1)
    world.launch(1, [proxy, "--mode=server", "2", DATA, right], env=env)
    world.hold(lambda: bool(world.node(f"{DATA}/event-channel")))
    world.launch(2, [proxy, "--mode=client", "1", DATA, left], env=env)
    sender = socket.socket(socket.AF_UNIX)

    def connected() -> bool:
        return sender.connect_ex(left) == 0

    def accepted() -> bool:
        return bool(select.select([listening], [], [], 0)[0])

    with listening, sender:
        world.hold(connected)
        world.hold(accepted)
        receiver = listening.accept()[0]
        sender.setblocking(False)
        receiver.setblocking(False)
        sent, taken = os.urandom(300_000), bytearray()
        left_over = memoryview(sent)

        def carried() -> bool:
            nonlocal left_over
            readable, writable, _ = select.select([receiver], [sender] if left_over else [], [], 0)
            if writable:
                left_over = left_over[sender.send(left_over[:8192]) :]
            if readable:
                taken.extend(receiver.recv(65536))
            return len(taken) >= len(sent)

        with receiver:
            world.hold(carried)
        assert bytes(taken) == sent
