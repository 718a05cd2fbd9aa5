"""Any order of commands, good and bad, while another program writes into the store: the host knows
what it has, and in the end nothing is left."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from live_hosts import Console

from xennet.hostd.control_socket import ControlSession
from xennet.xenstore.errors import XsError

guests = st.sampled_from([1, 2, "domU1", 3, 4])
handles = st.sampled_from([None, 0, 1, 7])
ends = st.sampled_from(["null:", "echo:", "gen:60x5", "switch", "other", "bla:"])
nonsense = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 70000) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)
names = st.sampled_from(
    ["domain", "vif", "handle", "front", "back", "type", "wait", "name", "force", "mac", "queues"]
)
paths = st.sampled_from(
    [
        *(f"/local/domain/1/device/vif/{name}/state" for name in ("0", "1", "7", "-1", "x")),
        *(f"/local/domain/0/backend/{kind}/1/{n}/state" for kind in ("vif", "qnic") for n in "017"),
        "/local/domain/0/device-model/1/state",
        "/local/domain/0/backend/vif/1/0/online",
        "/libxl/1/device/vif/1/backend",
    ]
)


def at_switch(pairs: Iterable[tuple[str, str]]) -> list[str]:
    """The other end of each vif with these ends that has one at the switch."""
    return [
        front if back == "switch" else back for front, back in pairs if "switch" in (front, back)
    ]


class Commands(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.written = False
        self.fed = False

    @initialize()
    def start(self) -> None:
        self.console = Console()
        self.domains = {1, 2}
        self.vifs: dict[tuple[int, int], tuple[str, str]] = {}

    def has(self, domain: object) -> int:
        """The number of the guest that is named; 0 for none."""
        number = 1 if domain == "domU1" else domain
        return number if isinstance(number, int) and number in self.domains else 0

    @rule()
    def create(self) -> None:
        made = self.console.do("create")["domid"]
        assert made not in self.domains
        self.domains.add(made)

    @rule(
        domain=guests, handle=handles, front=ends, back=ends, kind=st.sampled_from(["vif", "qnic"])
    )
    def attach(self, domain, handle, front, back, kind) -> None:
        # The switch has no spanning tree: what is sent to a loop goes round, and no rest comes.
        others = at_switch([*self.vifs.values(), (front, back)])
        fed = self.fed or "gen:60x5" in others
        if fed and ("switch" in others or others.count("echo:") > 1):
            return
        self.fed = fed
        arguments = {"domain": domain, "front": front, "back": back, "type": kind}
        if handle is not None:
            arguments["handle"] = handle
        answer = self.console.ask("attach", **arguments)
        number = self.has(domain)
        free = next(n for n in range(99) if (number, n) not in self.vifs)
        key = number, free if handle is None else handle
        if not number or "bla:" in (front, back) or key in self.vifs:
            assert "error" in answer
        elif "error" in answer:
            assert self.written  # into the toolstack's own directory
            assert "in use" in answer["error"]
        else:
            self.vifs[key] = front, back
            told = answer["result"]
            assert told["name"] == f"vif{key[0]}.{key[1]}"
            assert self.written or told["connected"] == ("other" not in (front, back))

    @rule(domain=guests, vif=handles, force=st.booleans())
    def detach(self, domain, vif, force) -> None:
        answer = self.console.ask("detach", domain=domain, vif=vif, force=force)
        number = self.has(domain)
        own = [key for key in self.vifs if key[0] == number]
        key = own[0] if vif is None and len(own) == 1 else (number, vif)
        if key in self.vifs:
            del self.vifs[key]
            assert answer["result"]["name"] == f"vif{key[0]}.{key[1]}"
        else:
            assert "error" in answer

    @rule(domain=guests)
    def destroy(self, domain) -> None:
        answer = self.console.ask("destroy", domain=domain)
        if number := self.has(domain):
            assert answer["result"]["gone"]
            self.domains.remove(number)
            self.vifs = {key: ends for key, ends in self.vifs.items() if key[0] != number}
        else:
            assert "error" in answer

    @rule(domain=guests, vif=handles)
    def why(self, domain, vif) -> None:
        answer = self.console.ask("why", domain=domain, vif=vif)
        if (self.has(domain), vif) in self.vifs:
            told = answer["result"]
            assert self.written or told["connected"] or told["why"]

    @rule(
        command=st.sampled_from(["attach", "detach", "why", "create", "list"]),
        values=st.dictionaries(names, nonsense, max_size=3),
    )
    def ask_nonsense(self, command, values) -> None:
        before = len(self.console.live.vifs), len(list(self.console.live.domains))
        answer = self.console.ask(command, **{"x": 1, **values})
        assert "internal" not in answer["error"]
        assert before == (len(self.console.live.vifs), len(list(self.console.live.domains)))

    @rule(data=st.binary(max_size=60))
    def send_garbage(self, data) -> None:
        session = ControlSession(self.console.commands.perform)
        session.receive(data)
        session.resume()
        session.close()

    @rule(path=paths, value=st.sampled_from(["1", "2", "4", "5", "6", "0", "x", "running", ""]))
    def write(self, path, value) -> None:
        self.written = True
        with suppress(XsError):
            self.console.client().write(path, value)

    @rule(seconds=st.integers(0, 30))
    def wait(self, seconds) -> None:
        self.console.host.pump.pass_time(seconds * 1_000_000_000)

    @invariant()
    def the_host_knows_what_it_has(self) -> None:
        told = self.console.do("list")["domains"]
        assert {domain["domid"] for domain in told} == {0, *self.domains}
        named = {vif["name"] for domain in told for vif in domain["vifs"]}
        assert named == {f"vif{domid}.{handle}" for domid, handle in self.vifs}
        switched = sum(ends.count("switch") for ends in self.vifs.values())
        assert len(self.console.live.switch.ports) == switched

    def teardown(self) -> None:
        self.console.end()


TestCommands = Commands.TestCase
TestCommands.settings = settings(max_examples=15, stateful_step_count=14)
