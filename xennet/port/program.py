"""``exec:COMMAND`` in place of a port: a program that is the driver at that end of a vif."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from xennet.port.base import BasePort, Port, PortError


class ProgramEnd(BasePort):
    """``exec:COMMAND``: in a run, the driver at this end of the vif is that program
    (xennet.run.with_program), and where its frames come from and go to is its own business. As a
    port it gives nothing and swallows everything.

    ``words`` are those of the command, as a shell divides it. Raises PortError for none.
    """

    def __init__(self, command: str) -> None:
        try:
            self.words = shlex.split(command)
        except ValueError as error:
            raise PortError(f"exec:{command}: {error}") from None
        if not self.words:
            raise PortError("exec: no command, wants exec:COMMAND")
        super().__init__(f"exec:{command}")


def program_of(ports: Sequence[Port]) -> ProgramEnd | None:
    """The program among the ports of a run, if there is one."""
    return next((port for port in ports if isinstance(port, ProgramEnd)), None)
