"""A host for one program: domain 0 and a guest, with a socket for each of them."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress

from xennet.exec.launch import launch, passing_signals_on, socket_paths, watching_end
from xennet.exec.server import ExecServer
from xennet.host import Host
from xennet.host.capacity import Capacity
from xennet.host.host import guest_mac
from xennet.port.echo import EchoPort
from xennet.port.null import NullPort
from xennet.pump import RealClock
from xennet.toolstack.device_model import DeviceModel
from xennet.toolstack.vif_nodes import VifConfig


class OwnHost:
    """A host on the real clock whose domain 0 and guest ``guest`` programs can run in.

    A domain in which a program is to run (``domid``) has no drivers of xennet's; the other one has.
    Beside domain 0's programs the guest has a vif 0 of the type "qnic", which appears when a device
    model plugs it in and says that it runs (QEMU's ``-device xen-net-device``); the guest sends
    every frame back.
    """

    def __init__(self, domid: int, guest: int | None = None) -> None:
        guest = guest or domid or 1
        self.host = Host(Capacity(), clock=RealClock(), shared=True, serve_unknown=False)
        self.directory = tempfile.mkdtemp(prefix="xennet-exec-")
        self.server = ExecServer(self.host.machine, self.host.pump, self.host.service.server)
        try:
            one = self.host.add_guest(guest, drivers=None if domid else "xennet")
            for domain, grants in (
                (self.host.dom0.domain, self.host.dom0.kernel.grants),
                (one.domain, one.kernel.grants),
            ):
                self.server.serve(domain, grants, *socket_paths(self.directory, domain.domid))
            if domid:
                self.host.dom0.load()
            else:
                one.boot()
                config = VifConfig(guest_mac(guest), type="qnic", script=None)
                model = DeviceModel.PLUGS
                self.host.plug(one, 0, EchoPort(), NullPort(), config, device_model=model)
        except BaseException:
            self.close()
            raise

    def run(self, argv: Sequence[str], domid: int, *, crash: bool = False) -> int:
        """Run a program in domain ``domid`` and return its exit status, negative for a signal.

        SIGINT, SIGTERM and SIGHUP are passed on to it. With ``crash`` its end is the crash of the
        domain. Raises ExecError if it cannot be started.
        """
        with passing_signals_on() as pass_on_to:
            program = launch(argv, *socket_paths(self.directory, domid))
            pass_on_to(program)
            try:
                if crash:
                    with suppress(OSError):
                        self.server.crashes_with(domid, program.pid)
                wait_for(self, program)
            finally:
                if program.poll() is None:
                    program.kill()
                    program.wait()
        # What it left behind is cleared away.
        self.host.pump.run()
        return int(program.returncode)

    def close(self) -> None:
        """Switch it off."""
        self.server.close()
        self.host.destroy()
        shutil.rmtree(self.directory, ignore_errors=True)


def wait_for(own: OwnHost, program: subprocess.Popen[bytes]) -> None:
    """Keep the machine going until the program has ended."""
    with watching_end(program, own.host.pump) as ended:
        own.host.pump.hold(None, ended)
