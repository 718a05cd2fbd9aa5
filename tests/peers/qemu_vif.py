"""A vif whose backend is QEMU's ``xen-net-device``, and the host behind it: a socket."""

from __future__ import annotations

import socket
from collections import deque
from contextlib import suppress
from typing import Any

from peer_world import PeerWorld

from xennet.bench.real_qemu import Qemu
from xennet.frames import Endpoint
from xennet.host.host import guest_mac
from xennet.port.null import NullPort
from xennet.toolstack.device_model import DeviceModel
from xennet.toolstack.vif_nodes import VifConfig
from xennet.xenbus.frontend_rules import Phase


class HostEnd:
    """The other end of QEMU's netdev: takes frames, and sends them back if it is to ``echo``."""

    def __init__(self, world: PeerWorld, domid: int, echo: bool) -> None:
        self._world, self._echo = world, echo
        self.mine, self.theirs = (
            str(world.directory / f"{end}-{domid}") for end in ("host", "qemu")
        )
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.mine)
        self._socket.setblocking(False)
        #: Frames that came, and frames to send.
        self.taken: list[bytes] = []
        self.to_send: deque[bytes] = deque()
        self._connected = False
        world.pump.watch(self._socket.fileno(), self._readable)

    def send(self) -> None:
        """Send what is to be sent, as far as there is room; the rest when there is."""
        try:
            if not self._connected:  # so that it can be waited for
                self._socket.connect(self.theirs)
                self._connected = True
            while self.to_send:
                self._socket.send(self.to_send[0])
                self.to_send.popleft()
        except BlockingIOError:
            pass
        except OSError:  # QEMU is gone
            self.to_send.clear()
        self._world.pump.watch(
            self._socket.fileno(), self._readable, self.send if self.to_send else None
        )

    def close(self) -> None:
        """No more frames."""
        self._world.pump.unwatch(self._socket.fileno())
        self._socket.close()

    def _readable(self) -> None:
        with suppress(BlockingIOError, ConnectionError):
            for _ in range(64):
                frame = self._socket.recv(65536)
                self.taken.append(frame)
                if self._echo:
                    self.to_send.append(frame)
        if self.to_send:
            self.send()


class QemuVif:
    """A new guest of a host, its vif 0, and a QEMU that plugs the backend in and serves it. The
    guest's network stack is ``guest_end``."""

    def __init__(
        self,
        world: PeerWorld,
        qemu: Qemu,
        guest_end: Endpoint,
        *,
        echo: bool = True,
        **options: Any,
    ) -> None:
        self.world = world
        self.guest = world.add_guest()
        domid = self.guest.domid
        self.host_end = HostEnd(world, domid, echo)
        self.guest.boot()
        config = VifConfig(guest_mac(domid), type="qnic", script=None)
        self.vif = world.host.plug(
            self.guest, 0, guest_end, NullPort(), config, device_model=DeviceModel.PLUGS, **options
        )
        words = qemu.command(domid, config.mac, self.host_end.theirs, self.host_end.mine)
        self.qemu = world.launch(0, words, env=qemu.environment())
        self.connected()

    def connected(self) -> None:
        """Wait until frames can flow."""
        self.world.hold(lambda: self.vif.connected or self.qemu.poll() is not None)
        assert self.vif.connected, self.world.output(self.qemu)

    @property
    def state(self) -> str:
        """The state that QEMU's end shows."""
        return self.world.node(f"/local/domain/0/backend/qnic/{self.guest.domid}/0/state")

    @property
    def unloaded(self) -> bool:
        """Whether the guest's driver has ended."""
        return self.vif.frontend is not None and self.vif.frontend.phase is Phase.IDLE

    def hold_running(self, until: Any) -> None:
        """Keep everything going until something is so; QEMU has to run meanwhile."""
        self.world.hold(lambda: until() or self.qemu.poll() is not None)
        assert self.qemu.poll() is None, self.world.output(self.qemu)

    @property
    def mapped(self) -> int:
        """Number of pages of the guest's that domain 0 has mapped, but for its ring to the
        store."""
        return sum(program.mappings for program in self.world.server.programs.values())
