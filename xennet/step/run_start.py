"""What a run that is made step by step begins with, and can be made anew from."""

from __future__ import annotations

import shlex
from contextlib import ExitStack

from attrs import frozen

from xennet.link.vif import VifLink
from xennet.port.base import PortError
from xennet.port.files import STANDARD
from xennet.port.spec import open_ports, parse
from xennet.run.options import RunOptions
from xennet.run.over_vifs import setup_of

#: Schemes of ports that give the same each time, which is how a step is undone.
_THE_SAME_AGAIN = frozenset(("gen", "tcp", "tcp6", "pcap", "null", "echo"))


@frozen
class RunStart:
    """The ports ``guest`` and ``host`` and the drivers between them, as ``xennet run`` names them.
    Raises PortError for a port that cannot give its frames a second time, or that keeps them."""

    guest: str
    host: str
    frontend: str = "linux"
    backend: str = "linux"

    def __attrs_post_init__(self) -> None:
        for spec in (self.guest, self.host):
            require_the_same_again(spec)

    @property
    def options(self) -> str:
        """The options of a command that begins so."""
        words = ["--guest", self.guest, "--host", self.host]
        for option, driver in (("--frontend", self.frontend), ("--backend", self.backend)):
            words += [option, driver] if driver != "linux" else []
        return shlex.join(words)

    def link(self, closing: ExitStack) -> VifLink:
        """A new machine, not open yet; ``closing`` gives it and its ports back. Raises PortError
        for ports that cannot be opened, OwnDriverError for a driver that cannot be made."""
        guest, host = open_ports((self.guest, self.host))
        closing.callback(guest.close)
        closing.callback(host.close)
        link = VifLink(
            guest, host, setup=setup_of(RunOptions(frontend=self.frontend, backend=self.backend))
        )
        closing.callback(link.machine.close)
        return link


def require_the_same_again(spec: str) -> None:
    """Raises PortError for a port that cannot give its frames a second time, or that keeps them."""
    for part in parse(spec):
        scheme = part.scheme.usage.partition(":")[0]
        if scheme not in _THE_SAME_AGAIN or part.file == STANDARD:
            raise PortError(
                f"{spec}: steps are undone by a run that is made anew, which this port cannot be "
                f"in: {', '.join(sorted(_THE_SAME_AGAIN))} can"
            )
