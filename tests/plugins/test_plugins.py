"""Ports and links of installed packages: found when they are needed, and named when they are no
good."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from distributions import Install, install

from xennet.cli import main
from xennet.cli.completion import links as completed_links
from xennet.cli.completion import ports as completed_ports
from xennet.plugins import PluginError
from xennet.port import PortError, open_port
from xennet.port.null import NullPort
from xennet.port.spec import PORTS, SCHEMES, parse
from xennet.run.links import KINDS, LINKS
from xennet.run.links import parse as parse_link

#: A port and a link, as small as can be.
PORT = """\
from xennet import BasePort

class SomePort(BasePort):
    usage = "some:WORD"
    plays = True

    def __init__(self, argument):
        if argument == "bad":
            raise OSError("no such\\nword")
        super().__init__(f"some:{argument}")

class NoUsage(BasePort):
    pass

class Leaves(BasePort):
    usage = "leaves:"

    def __init__(self, argument):
        raise SystemExit(5)

class OtherUsage(BasePort):
    usage = "other:"

class Drain(BasePort):
    usage = "drain:FILE"
    records = writes_file = True

def no_port(argument):
    return argument

no_port.usage = "none:"
"""
LINK = """\
from xennet.errors import LinkError
from xennet.link.epair import EpairLink

class Wire(EpairLink):
    usage = "wire[:COLOUR]"

    def __init__(self, argument, options):
        if argument == "cut":
            raise LinkError("the wire is cut")
        if argument == "odd":
            raise KeyError(argument)
        super().__init__()

    @staticmethod
    def check(argument):
        if argument not in (None, "red", "cut", "odd"):
            raise ValueError(f"wires are red, not {argument}")

class Bus(EpairLink):
    usage = "bus:FILE"
    is_file = True

class Odd(EpairLink):
    usage = "odd"

    def check(self, argument):
        "Not a static method."
"""


def said(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What the command says on its standard output."""
    assert main(words) == 0
    return capsys.readouterr().out


@pytest.fixture
def some(installed: Install) -> None:
    names = {
        "some": "some_port:SomePort",
        "drain": "some_port:Drain",
        "silent": "some_port:NoUsage",
        "leaves": "some_port:Leaves",
        "wrong": "some_port:OtherUsage",
        "gone": "some_port:Gone",
        "lost": "no_such_module:Port",
        "none": "some_port:no_port",
        "number": "some_port:__name__",
        "a b": "some_port:SomePort",
        "null": "some_port:SomePort",
    }
    installed("xennet-some", "some_port", PORT, "xennet.ports", names)


@pytest.fixture
def wire(installed: Install) -> None:
    names = {"wire": "some_wire:Wire", "bus": "some_wire:Bus", "vif": "some_wire:Wire"}
    names["odd"] = "some_wire:Odd"
    installed("xennet-wire", "some_wire", LINK, "xennet.links", names)


@pytest.mark.usefixtures("some")
def test_a_port_of_a_package_is_opened_by_its_name() -> None:
    port = open_port("some:thing")
    assert type(port).__module__ == "some_port"
    assert port.name == "some:thing"
    joined = parse("drain:out+some:x+y:z")
    assert [(part.scheme.usage, part.argument) for part in joined] == [
        ("some:WORD", "x+y:z"),
        ("drain:FILE", "out"),
    ]


@pytest.mark.usefixtures("some")
def test_what_is_built_in_stays_and_who_wants_its_name_is_told() -> None:
    assert type(open_port("null:")) is NullPort
    assert (
        "entry point 'null' of xennet-some 1.0 (group xennet.ports) has no effect: "
        "'null' is built in"
    ) in PORTS.faults()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("some:bad", "'some' of .* failed: OSError: no such word"),
        ("silent:", "cannot be used: TypeError: some_port:NoUsage has the usage None, not a str"),
        ("wrong:", "TypeError: some_port:OtherUsage has the usage 'other:', not .* 'wrong:ARG"),
        ("gone:", "cannot be used: AttributeError: module 'some_port' has no attribute 'Gone'"),
        ("lost:", "cannot be used: ModuleNotFoundError: No module named 'no_such_module'"),
        ("leaves:", "'leaves' of .* failed: SystemExit: 5"),
        ("none:", "gave '', which has no carries, close, counters, exhausted, "),
        ("number:", "TypeError: some_port:__name__ is no class"),
        ("a b:", "cannot be used: names have letters, digits, '-', '_', '.'"),
        ("drain:", "no file name, wants drain:FILE"),
        ("soem:x", "did you mean some:x?"),
        ("other:", r"unknown, known are pcap:FILE.*, drain:FILE, leaves:, none:, some:WORD$"),
    ],
)
@pytest.mark.usefixtures("some")
def test_a_port_that_cannot_be_used_is_one_line_with_its_distribution(
    spec: str, message: str
) -> None:
    with pytest.raises(PortError, match=message) as caught:
        open_port(spec)
    assert "\n" not in str(caught.value)
    if "entry point" in str(caught.value):
        assert "xennet-some 1.0 (group xennet.ports)" in str(caught.value)


def test_a_package_that_exits_when_it_is_imported_silences_nothing(
    installed: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    source = "import sys\nsys.exit(5)\n"
    for group, kind in (("xennet.ports", "port"), ("xennet.links", "link")):
        installed(f"xennet-exit-{kind}", f"exit_{kind}", source, group, {"out": f"exit_{kind}:Out"})
    faults = [
        f"entry point 'out' of xennet-exit-{kind} 1.0 (group xennet.{kind}s) cannot be used: "
        "SystemExit: 5"
        for kind in ("port", "link")
    ]
    lines = said(capsys, "info").splitlines()
    assert [line.split(maxsplit=2)[2] for line in lines if line.startswith("not used")] == faults
    text = " ".join(said(capsys, "run", "--help").split())
    for fault in faults:
        assert f"Not used: {fault}" in text
    with pytest.raises(PortError, match=re.escape(faults[0])):
        open_port("out:")
    with pytest.raises(ValueError, match=re.escape(faults[1])):
        parse_link("out")


def test_two_packages_with_one_name_are_both_named(installed: Install) -> None:
    for number in (1, 2):
        names = {"some": f"some{number}:SomePort"}
        installed(f"xennet-some{number}", f"some{number}", PORT, "xennet.ports", names)
    clash = (
        "entry point 'some' (group xennet.ports) is in xennet-some1 1.0 and xennet-some2 1.0: "
        "one has to go"
    )
    with pytest.raises(PortError, match=re.escape(clash)):
        open_port("some:x")
    assert PORTS.faults() == [clash]
    assert list(PORTS.usable()) == list(SCHEMES)


@pytest.mark.usefixtures("wire")
def test_a_link_of_a_package_carries_a_run(capsys: pytest.CaptureFixture[str]) -> None:
    kind, argument = parse_link("wire:red")
    assert (kind.usage, argument) == ("wire[:COLOUR]", "red")
    words = ["--quiet", "--link", "wire:red", "--guest", "gen:60x3", "--host", "null:"]
    assert said(capsys, "run", *words).startswith("GOOD")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("wire:blue", "'wire:blue': wires are red, not blue"),
        ("bus", "'bus': no file name, wants bus:FILE"),
        ("odd", "'odd': entry point 'odd' of xennet-wire 1.0 .* failed: TypeError: .*check"),
        ("bus:", "'bus:': no file name, wants bus:FILE"),
        ("rope", f"no link 'rope'; there are {', '.join(KINDS)}, bus, odd, wire"),
    ],
)
@pytest.mark.usefixtures("wire")
def test_a_link_is_refused_in_one_line(spec: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_link(spec)


@pytest.mark.parametrize(
    ("argument", "line"),
    [
        ("cut", "the wire is cut"),
        (
            "odd",
            "entry point 'wire' of xennet-wire 1.0 (group xennet.links) failed: KeyError: 'odd'",
        ),
    ],
)
@pytest.mark.usefixtures("wire")
def test_a_link_that_cannot_be_made_is_told_in_one_line(
    capsys: pytest.CaptureFixture[str], argument: str, line: str
) -> None:
    words = ["run", "--link", f"wire:{argument}", "--guest", "null:", "--host", "null:"]
    assert main(words) == 2
    assert capsys.readouterr().err == f"xennet: {line}\n"


@pytest.mark.usefixtures("some", "wire")
def test_help_has_every_usage_and_what_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    text = " ".join(said(capsys, "run", "--help").split())
    for usage in (*(one.usage for one in SCHEMES.values()), "some:WORD", "drain:FILE"):
        assert f" {usage}" in text
    links = ", ".join(kind.usage for kind in KINDS.values())
    assert f"Links: {links}, bus:FILE, odd, wire[:COLOUR]." in text
    assert "Not used: entry point 'gone' of xennet-some 1.0 (group xennet.ports) cannot be" in text
    assert "Not used: entry point 'vif' of xennet-wire 1.0 (group xennet.links) has no" in text


@pytest.mark.usefixtures("some", "wire")
def test_info_has_what_packages_add_and_what_is_wrong(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = said(capsys, "info").splitlines()
    assert "plugin     port some, of xennet-some 1.0" in lines
    assert "plugin     link wire, of xennet-wire 1.0" in lines
    assert any(line.startswith("not used   entry point 'gone' of xennet-some") for line in lines)
    told = json.loads(said(capsys, "info", "--json"))
    assert "link bus, of xennet-wire 1.0" in told["plugins"]
    assert told["plugin_faults"] == [*PORTS.faults(), *LINKS.faults()]


@pytest.mark.usefixtures("some", "wire")
def test_completion_has_what_can_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "x.bus").touch()
    monkeypatch.chdir(folder)
    assert completed_ports("s") == ["shmif:", "some:"]
    assert completed_ports("some:x+d") == ["some:x+drain:"]
    assert completed_ports("drain:") == ["drain:x.bus"]
    assert completed_links("") == ["vif", "epair", "netmap:", "shmif:", "bus:", "odd", "wire"]
    assert completed_links("bus:x") == ["bus:x.bus"]
    assert completed_links("wire:") == []


def test_packages_are_not_searched_for_what_is_built_in(monkeypatch: pytest.MonkeyPatch) -> None:
    searched: list[str] = []

    def search(group: str) -> list[object]:
        searched.append(group)
        return []

    monkeypatch.setattr("importlib.metadata.entry_points", search)
    for registry in (PORTS, LINKS):
        registry.forget()
    parse("gen:60x1+record:out.pcap")
    for kind in ("vif", "epair:netisr", "shmif:bus"):
        parse_link(kind)
    assert searched == []
    for _ in range(2):
        with pytest.raises(PortError, match="unknown"):
            parse("some:x")
    assert searched == ["xennet.ports"]
    PORTS.forget()


def test_a_run_searches_no_packages() -> None:
    script = (
        "import importlib.metadata; from xennet.cli import main\n"
        "importlib.metadata.entry_points = importlib.metadata.distributions = exit\n"
        "print(main('run --quiet --guest gen:60x1 --host null:'.split()))"
    )
    plain = {**os.environ, "XENNET_ENGINE": "plain"}  # numba searches for its own
    done = subprocess.run([sys.executable, "-c", script], env=plain, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1:] == ["0"], done.stderr


@pytest.mark.parametrize(
    ("entry_points", "reason"),
    [
        (b"[xennet.ports]\nnonsense\n", "TypeError: "),
        (b"\xff[xennet.ports]\n", "UnicodeDecodeError: "),
    ],
)
@pytest.mark.usefixtures("some")
def test_a_package_with_damaged_metadata_is_named_and_the_others_are_found(
    tmp_path: Path, entry_points: bytes, reason: str
) -> None:
    info = tmp_path / "odd-2.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: odd\nVersion: 2.0\n")
    (info / "entry_points.txt").write_bytes(entry_points)
    assert open_port("some:x").name == "some:x"
    assert PORTS.faults()[0].startswith(f"odd 2.0 has entry points that cannot be read: {reason}")


def test_a_name_is_loaded_once_and_a_fault_is_raised_each_time(some: None) -> None:
    assert PORTS.get("some") is PORTS.get("some")
    for _ in range(2):
        with pytest.raises(PluginError, match="some_port:NoUsage"):
            PORTS.get("silent")
    assert PORTS.get("nobody") is None


def test_the_command_has_the_ports_of_packages_on_its_path(tmp_path: Path) -> None:
    install(
        tmp_path, "xennet-some", "some_port", PORT, "xennet.ports", {"some": "some_port:SomePort"}
    )
    done = subprocess.run(
        [sys.executable, "-m", "xennet", "run", "--guest", "some:bad", "--host", "null:"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (
        2,
        "xennet: entry point 'some' of xennet-some 1.0 (group xennet.ports) failed: "
        "OSError: no such word\n",
    )


def test_readme_lists_the_ports_that_there_are() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    table = re.search(r"^\| port \|.*?\n\n", readme, re.MULTILINE | re.DOTALL)
    assert table is not None
    listed = re.findall(r"`([^`]+)`", " ".join(re.findall(r"^\|([^|]+)\|", table[0], re.MULTILINE)))
    assert sorted(listed) == sorted(
        "tcp6:" if name == "tcp6" else scheme.usage for name, scheme in SCHEMES.items()
    )
