"""An interface of a link, and everybody who may want it, against a model of who gets its frames."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from netmap_clients import all_free
from test_interface_ends import A, B, Link, Machine, frame, received, sent

from xennet.abi.netmap import NR_REG_ALL_NIC, NR_REG_NIC_SW
from xennet.host.setup import Setup
from xennet.link.base_link import BaseLink
from xennet.link.vifs import Vifs
from xennet.netmap import Port
from xennet.netmap import open as open_port
from xennet.netmap.vale_nic import attach, detach


class WhoGetsFrames(RuleBasedStateMachine):
    """``has``: who has the interface: its stack, a client (of the NIC's rings; of the stack's too;
    of the stack's only), or a switch (alone, or with the stack behind it)."""

    def __init__(self) -> None:
        super().__init__()
        self.machine = Machine(self.made())
        self.has = "stack"
        self.number = 0
        self.port: Port | None = None
        self.switch = open_port("vale0:p", device=self.machine.device)

    @staticmethod
    def made() -> Link:
        """The link whose interface it is."""
        return BaseLink()

    @initialize()
    def addresses_are_learned(self) -> None:
        sent(self.switch, self.fresh(B))

    def fresh(self, of: bytes = A) -> bytes:
        self.number += 1
        return frame(self.number, b"\xff" * 6, of)

    @precondition(lambda self: self.has == "stack")
    @rule(suffix=st.sampled_from(["", "*", "^"]))
    def a_client_opens_it(self, suffix: str) -> None:
        self.port = self.machine.open(suffix)
        self.has = f"client{suffix}"

    @precondition(lambda self: self.has == "stack")
    @rule(mode=st.sampled_from([NR_REG_ALL_NIC, NR_REG_NIC_SW]))
    def a_switch_has_it(self, mode: int) -> None:
        attach(self.machine.device.state, f"vale0:{self.machine.name}", mode, 0, 0, None)
        self.has = "switch" if mode == NR_REG_ALL_NIC else "switch*"

    @precondition(lambda self: self.has != "stack")
    @rule()
    def it_is_given_back(self) -> None:
        if self.port is not None:
            self.port.close()
            self.port = None
        else:
            detach(self.machine.device.state, f"vale0:{self.machine.name}")
        self.has = "stack"

    @rule(frames=st.integers(1, 20))
    def the_other_end_sends(self, frames: int) -> None:
        out = [self.fresh(B) for _ in range(frames)]
        self.machine.host.send(*out)
        self.carried(wire=out)

    @rule(frames=st.integers(1, 20))
    def the_stack_sends(self, frames: int) -> None:
        out = [self.fresh() for _ in range(frames)]
        self.machine.guest.send(*out)
        self.carried(stack=out)

    @rule(frames=st.integers(1, 20))
    def the_port_of_the_switch_sends(self, frames: int) -> None:
        out = [self.fresh() for _ in range(frames)]
        sent(self.switch, *out)
        self.carried(switch=out)

    @precondition(lambda self: self.has in ("client", "client*"))
    @rule(frames=st.integers(1, 20))
    def the_client_sends(self, frames: int) -> None:
        assert self.port is not None
        out = [self.fresh() for _ in range(frames)]
        sent(self.port, *out)
        self.carried(client=out)

    def carried(self, **by: list[bytes]) -> None:
        """Carry what one of ``by`` has sent, and see that those have it who should, in order."""
        (who, frames), got = next(iter(by.items())), {}
        self.machine.link.carry()
        got["wire"], got["stack"] = self.machine.host.taken(), self.machine.guest.taken()
        got["switch"] = received(self.switch)
        got["client"] = received(self.port) if self.port is not None else []
        takers = {taker for group in TOGETHER[self.has] if who in group for taker in group} - {who}
        if who == "client":  # from its NIC rings
            takers = {"wire"}
        assert got == {name: frames if name in takers else [] for name in got}

    @invariant()
    def netmap_has_it_or_not(self) -> None:
        assert self.machine.end.in_netmap_mode == (self.has != "stack")

    def teardown(self) -> None:
        if self.has != "stack":
            self.it_is_given_back()
        region = self.switch.file.bound().port.region
        self.switch.close()
        assert all_free(region)
        self.machine.end.remove()
        self.machine.link.destroy()


#: Who gets each other's frames, by who has the interface.
TOGETHER: dict[str, list[set[str]]] = {
    "stack": [{"wire", "stack"}],
    "client": [{"wire", "client"}],
    "client*": [{"wire", "client"}, {"stack", "client"}],
    "client^": [{"wire", "stack"}],
    "switch": [{"wire", "switch"}],
    "switch*": [{"wire", "switch", "stack"}],
}


class WhoGetsFramesOfAVif(WhoGetsFrames):
    """The same with netfront's interface, which has a native adapter."""

    @staticmethod
    def made() -> Link:
        return Vifs(Setup())


WhoGetsFrames.TestCase.settings = settings(max_examples=30, stateful_step_count=20, deadline=None)
TestWhoGetsFrames = WhoGetsFrames.TestCase
WhoGetsFramesOfAVif.TestCase.settings = settings(
    max_examples=12, stateful_step_count=20, deadline=None
)
TestWhoGetsFramesOfAVif = WhoGetsFramesOfAVif.TestCase
