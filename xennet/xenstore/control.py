"""XS_CONTROL: commands to the server itself (xenstored_control.c), with the answers of each
daemon."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

from attrs import evolve, field, frozen

from xennet.unit_file import UnitFile, appending
from xennet.xenstore.arguments import atoi
from xennet.xenstore.errors import XsError
from xennet.xenstore.likeness import OXENSTORED, XEN_4_17, XEN_4_20
from xennet.xenstore.quota import UNLIMITED, Quota
from xennet.xenstore.store import Store
from xennet.xenstore.trace import TraceFile, cannot
from xennet.xenstore.wire import encode_text, strings


class Controlled(Protocol):
    """The server as the commands see it."""

    @property
    def store(self) -> Store: ...
    @property
    def trace(self) -> TraceFile: ...
    @property
    def say(self) -> Callable[[str], None]: ...
    @property
    def dialect(self) -> Dialect: ...


class Limit(NamedTuple):
    """A limit of :class:`Quota` under the name that XS_CONTROL gives it."""

    name: str
    field: str
    meaning: str


class Command(NamedTuple):
    """One command: ``run(server, arguments)`` returns the text of the answer.

    Raises XsError EINVAL for wrong arguments.
    """

    usage: str
    run: Callable[[Controlled, Sequence[str]], str]


@frozen
class Dialect:
    """The commands of one daemon, and the form of its answers.

    ``help_line`` is formatted with ``name`` and ``usage`` of each command. ``limits`` are those
    that "quota" shows and sets. ``used`` are the limits that "quota DOMID" shows, in order, each as
    ``used_line`` formatted with ``name``, ``now`` and ``most``. A daemon that ``answers_anything``
    answers OK to every command and does nothing.
    """

    commands: Mapping[str, Command] = field(repr=False)
    help_line: str
    limits: Sequence[Limit] = field(repr=False)
    used: Sequence[str]
    used_line: str
    answers_anything: bool = False


def control(server: Controlled, payload: bytes) -> bytes:
    """Run a command. Returns its answer, which ends with a nul.

    Raises XsError EINVAL for a command that is not known or not terminated, or has wrong arguments.
    """
    if server.dialect.answers_anything:
        return b"OK\0"
    words = strings(payload)
    command = server.dialect.commands.get(words[0]) if words else None
    if command is None:
        raise XsError("EINVAL", words[0] if words else "", "no such control command")
    return encode_text(command.run(server, words[1:])) + b"\0"


def _expect(arguments: Sequence[str], count: int) -> None:
    if len(arguments) != count:
        raise XsError("EINVAL", "\0".join(arguments), f"{count} arguments are needed")


def _check(server: Controlled, arguments: Sequence[str]) -> str:
    """Answer OK: the tree is consistent by construction."""
    _expect(arguments, 0)
    return "OK"


def _log(server: Controlled, arguments: Sequence[str]) -> str:
    _expect(arguments, 1)
    switches = {"on": server.trace.on, "off": server.trace.off}
    if arguments[0] not in switches:
        raise XsError("EINVAL", arguments[0], "on or off")
    try:
        switches[arguments[0]]()
    except XsError as refused:
        raise _told(server, refused) from None
    return "OK"


def _log_or_switches(server: Controlled, arguments: Sequence[str]) -> str:
    """ "log" of 4.20: without an argument it lists the switches; "+NAME" and "-NAME" set one."""
    switches = server.trace.switches
    if not arguments:
        return "Log switch settings:\n" + "".join(
            f"{name:8}: {'on' if is_on else 'off'}\n" for name, is_on in switches.items()
        )
    sign, name = arguments[0][:1], arguments[0][1:]
    if sign not in ("+", "-"):
        return _log(server, arguments)
    _expect(arguments, 1)
    if name not in switches:
        raise XsError("EINVAL", arguments[0], f"the switches are {' '.join(switches)}")
    switches[name] = sign == "+"
    return "OK"


def _logfile(server: Controlled, arguments: Sequence[str]) -> str:
    _expect(arguments, 1)
    server.trace.off()
    server.trace.path = arguments[0]
    return "OK"


def _live_update(server: Controlled, arguments: Sequence[str]) -> str:
    """Answer as a daemon that is not being updated; an update itself is refused."""
    if not arguments:
        raise XsError("EINVAL", detail="live-update needs an argument")
    states = {"-a": "No live-update session active.", "-s": "Not in live-update session."}
    if arguments[0] not in states:
        raise XsError("ENOSYS", arguments[0], "this server cannot be updated while it runs")
    return states[arguments[0]]


def _print(server: Controlled, arguments: Sequence[str]) -> str:
    _expect(arguments, 1)
    server.say(f"control: {arguments[0]}")
    return "OK"


def _memreport(server: Controlled, arguments: Sequence[str]) -> str:
    if len(arguments) > 1:
        raise XsError("EINVAL", detail="at most a file name")
    report = memory_report(server.store)
    if not arguments:
        server.trace.write(report)
        return "OK"
    try:
        file = UnitFile(appending(arguments[0]))
        file.write(report.encode())
        file.close()
    except (OSError, ValueError) as error:
        raise _told(server, cannot("be written", arguments[0], error)) from None
    return "OK"


def _told(server: Controlled, refused: XsError) -> XsError:
    """An error about a file, of which a client learns the number only: the server says more."""
    server.say(f"{refused.path}: {refused.detail}")
    return refused


def memory_report(store: Store) -> str:
    """A table of what each domain with nodes or connections holds, one line per domain."""
    lines = ["domid    nodes  watches  transactions  memory\n"]
    for domid in store.holders():
        lines.append(
            f"{domid:5} {store.nodes_owned(domid):8} {store.watches_of(domid):8} "
            f"{store.transactions_of(domid):13} {store.memory_of(domid):7}\n"
        )
    return "".join(lines)


def _quota(server: Controlled, arguments: Sequence[str]) -> str:
    if arguments[:1] == ["set"]:
        return _set(server, arguments, server.dialect.limits)
    if len(arguments) > 1:
        raise XsError("EINVAL", arguments[0], "either set NAME VALUE, or a domain")
    if arguments:
        return _usage(server, atoi(arguments[0]))
    return _show(server, server.dialect.limits)


def _quota_or_peaks(server: Controlled, arguments: Sequence[str]) -> str:
    """The command "quota" of 4.20: "max" shows the peaks of guests, "max -r" resets them first."""
    if arguments[:1] != ["max"]:
        return _quota(server, arguments)
    store = server.store
    if arguments[1:] == ["-r"]:
        store.peaks.reset({domid: store.usage_of(domid) for domid in store.holders()})
    elif arguments[1:]:
        raise XsError("EINVAL", arguments[1], "only -r is known")
    return "Max. seen accounting values:\n" + "".join(
        f"{limit.name:17}: {store.peaks.guests.get(limit.field, 0):8}\n"
        for limit in server.dialect.limits
    )


def _quota_soft(server: Controlled, arguments: Sequence[str]) -> str:
    return _set(server, arguments, _SOFT) if arguments else _show(server, _SOFT)


def _show(server: Controlled, limits: Sequence[Limit]) -> str:
    lines = [
        f"{limit.name:17}: {shown(server.store.quota, limit.field):8} {limit.meaning}\n"
        for limit in limits
    ]
    return "Quota settings:\n" + "".join(lines)


def _set(server: Controlled, arguments: Sequence[str], limits: Sequence[Limit]) -> str:
    _expect(arguments, 3)
    word, name, text = arguments
    field = next((limit.field for limit in limits if limit.name == name), None)
    value = atoi(text)
    if word != "set" or field is None or value < 1:
        raise XsError("EINVAL", name, f"no such quota, or no value for one: {text!r}")
    server.store.set_quota(evolve(server.store.quota, **{field: value}))
    return "OK"


def shown(quota: Quota, field: str) -> int:
    """A limit as the protocol shows it: 0 for none."""
    value: int = getattr(quota, field)
    return 0 if value == UNLIMITED else value


def _usage(server: Controlled, domid: int) -> str:
    store = server.store
    if store.domains.get(domid) is None:
        raise XsError("ENOENT", str(domid), "nothing is known of it")
    now, most = store.usage_of(domid), store.peaks.of(domid)
    fields = {limit.name: limit.field for limit in server.dialect.limits}
    line = server.dialect.used_line
    return f"Domain {domid}:\n" + "".join(
        line.format(name=name, now=now.get(fields[name], 0), most=most.get(fields[name], 0))
        for name in server.dialect.used
    )


def _help(server: Controlled, arguments: Sequence[str]) -> str:
    _expect(arguments, 0)
    line = server.dialect.help_line
    return "".join(
        line.format(name=name, usage=command.usage)
        for name, command in server.dialect.commands.items()
    )


_SOFT = (Limit("memory", "soft_memory", "Total Xenstore memory per domain (warning level)"),)

_LIMITS_4_17 = (
    Limit("nodes", "nodes", "Nodes per domain"),
    Limit("watches", "watches", "Watches per domain"),
    Limit("transactions", "transactions", "Transactions per domain"),
    Limit("outstanding", "outstanding", "Outstanding requests per domain"),
    Limit(
        "transaction-nodes",
        "transaction_nodes",
        "Max. number of accessed nodes per transaction",
    ),
    Limit("memory", "memory", "Total Xenstore memory per domain (error level)"),
    Limit("node-size", "node_size", "Max. size of a node"),
    Limit("path-max", "path_max", "Max. length of a node path"),
    Limit("permissions", "perms", "Max. number of permissions per node"),
)
_LIMITS_4_20 = (
    Limit("nodes", "nodes", "Nodes per domain"),
    Limit("watches", "watches", "Watches per domain"),
    Limit("outstanding", "outstanding", "Outstanding requests per domain"),
    Limit("memory", "memory", "Total Xenstore memory per domain (error level)"),
    Limit("transactions", "transactions", "Active transactions per domain"),
    Limit(
        "transaction-nodes",
        "transaction_nodes",
        "Max. number of accessed nodes per transaction",
    ),
    Limit("node-permissions", "perms", "Max. number of permissions per node"),
    Limit("path-max", "path_max", "Max. length of a node path"),
    Limit("node-size", "node_size", "Max. size of a node"),
)

_COMMANDS_4_17: Mapping[str, Command] = {
    "check": Command("", _check),
    "log": Command("on|off", _log),
    "live-update": Command(
        "[-c <cmdline>] [-F] [-t <timeout>] <file>\n    Default timeout is 60 seconds.",
        _live_update,
    ),
    "logfile": Command("<file>", _logfile),
    "memreport": Command("[<file>]", _memreport),
    "print": Command("<string>", _print),
    "quota": Command("[set <name> <val>|<domid>]", _quota),
    "quota-soft": Command("[set <name> <val>]", _quota_soft),
    "help": Command("", _help),
}
_COMMANDS_4_20: Mapping[str, Command] = {
    **_COMMANDS_4_17,
    "log": Command("[on|off|+<switch>|-<switch>]", _log_or_switches),
    "quota": Command("[set <name> <val>|<domid>|max [-r]]", _quota_or_peaks),
}

DIALECTS: Mapping[str, Dialect] = {
    XEN_4_17.name: Dialect(
        commands=_COMMANDS_4_17,
        help_line="{name}\t{usage}\n",
        limits=_LIMITS_4_17,
        used=("nodes", "watches", "transactions", "outstanding", "memory"),
        used_line="{name:16}: {now:8}\n",
    ),
    XEN_4_20.name: Dialect(
        commands=_COMMANDS_4_20,
        help_line="{name:16}{usage}\n",
        limits=_LIMITS_4_20,
        used=[limit.name for limit in _LIMITS_4_20],
        used_line="{name:17}: {now:8} (max {most:8})\n",
    ),
    OXENSTORED.name: Dialect(
        commands={}, help_line="", limits=(), used=(), used_line="", answers_anything=True
    ),
}
"""By the name of the daemon (Likeness.name)."""
