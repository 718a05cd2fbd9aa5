"""docs/cli.md names what the command line prints: exit codes, and every key of its JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from toy_target import COPY, NAME, page

from xennet.cli import main
from xennet.fuzz.corpus import Corpus
from xennet.fuzz.finding_file import Recorded, write_finding
from xennet.fuzz.target import Finding
from xennet.fuzz.target_table import open_target
from xennet.port import Counters
from xennet.run import (
    GUEST_TO_HOST,
    DefectReport,
    DirectionReport,
    DomainReport,
    InterfaceReport,
    Mismatch,
    PathReport,
    PortReport,
    RingReport,
    RunReport,
    SwitchReport,
    TimelineEntry,
    Verdict,
    VifReport,
)

DATA = Path(__file__).parents[1] / "data"
PAGE = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()

#: A run about which there is something of everything to tell.
WAY = DirectionReport(GUEST_TO_HOST, evidence=(Mismatch(0, "lost"),))
RUN = RunReport(
    Verdict(False, ("a reason",)),
    roots={"frontend": "/local/domain/1/device/vif/0"},
    timeline=(TimelineEntry(1, "dom0", "write"),),
    directions=(WAY,),
    vifs=(VifReport("vif1.0", 1, True, PathReport(), PathReport()),),
    switch=SwitchReport(WAY),
    defects=(DefectReport("B4", "torn", 1),),
    rings=(RingReport("tx"),),
    domains=(DomainReport("dom0"),),
    ports=(PortReport("guest", "null:", Counters()),),
    interfaces=(InterfaceReport("epair0a", "02:00:00:00:00:0a", 1500),),
)
COMMANDS = {
    "xennet-lifecycle/1": "lifecycle no-script-answer --json",
    "xennet-scenarios/1": "lifecycle --json",
    "xennet-info/1": "info --json",
    "xennet-check/1": "check netback --builtin xnb --only netback.tx.slot-in-page --json",
    "xennet-checks/1": "check list --json",
    "xennet-check-matrix/1": "check matrix --only small --json",
    "xennet-shmif/1": "shmif info BUS --json",
    "xennet-ring/1": f"ring {DATA}/rings/08-tcp-from-guest-01.q0.tx.bin --json",
    "xennet-why/1": f"why --store {DATA}/stores/guest-unbound.txt --json",
}


def documented(layout: str) -> set[str]:
    """The keys in the table below the heading of ``layout``."""
    section = PAGE.split(f"### `{layout}`", 1)[1].split("\n##", 1)[0]
    rows = re.findall(r"^\| (`.*?) \| ", section, re.MULTILINE)
    return {key for row in rows for key in re.findall(r"`([^`]+)`", row)}


def keys(value: object, above: str = "") -> Iterator[str]:
    """Dotted paths of the values in a document."""
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from keys(item, f"{above}.{key}" if above else key)
    elif isinstance(value, list):
        yield from (key for item in value or [""] for key in keys(item, f"{above}[]"))
    else:
        yield above


def check(document: dict[str, object], layout: str) -> None:
    assert document["format"] == layout
    described = documented(layout)
    wholes = tuple(key.removesuffix("*") for key in described if key.endswith("*"))
    printed = set(keys(document))
    assert {key for key in printed if not key.startswith(wholes)} == {
        key for key in described if not key.endswith("*")
    }
    for whole in wholes:
        assert any(key.startswith(whole) for key in printed), whole


def test_every_key_of_a_run_is_described_and_no_other() -> None:
    check(RUN.to_json(), "xennet-run/1")


@pytest.mark.parametrize("layout", COMMANDS)
def test_every_key_of_other_commands_is_described_and_no_other(
    layout: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    bus = str(tmp_path / "a.bus")
    main(("shmif", "create", bus))
    assert main(COMMANDS[layout].replace("BUS", bus).split()) in (0, 1)
    check(json.loads(capsys.readouterr().out), layout)


def test_every_key_of_a_campaign_is_described_and_no_other(
    capsys: pytest.CaptureFixture[str],
) -> None:
    known = ("--known", "T2")
    assert main(["fuzz", "toy_target:ToyTarget", "--rounds", "1", "--json", "-", *known]) == 1
    check(json.loads(capsys.readouterr().out), "xennet-fuzz/1")


@pytest.mark.parametrize(
    ("layout", "code", "args"),
    [
        ("xennet-fuzz-ci/1", 1, "ci toy_target:ToyTarget --base DIR --rounds 1 --json -"),
        ("xennet-fuzz-replay/1", 1, "replay DIR/crossing.xenfuzz --json"),
        ("xennet-fuzz-map/1", 0, "minimise DIR/crossing.xenfuzz --json"),
        ("xennet-fuzz-coverage/1", 0, "corpus coverage tx DIR --json"),
    ],
)
def test_every_key_about_findings_is_described_and_no_other(
    layout: str, code: int, args: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    crossing = page((COPY, 0, 4000, 200, 0))
    Corpus(tmp_path, NAME).findings.mkdir(parents=True)
    for name in ("crossing.xenfuzz", f"{NAME}/findings/old.xenfuzz"):
        write_finding(tmp_path / name, Recorded(crossing, Finding("T9", "")))
    gone = tmp_path / NAME / "findings" / "gone.xenfuzz"
    write_finding(gone, Recorded(page(), Finding("T1", "")))
    target = open_target("tx")
    Corpus(tmp_path, "tx").add(target.start(Random(1)))
    target.close()
    assert main(["fuzz", *args.replace("DIR", str(tmp_path)).split()]) == code
    check(json.loads(capsys.readouterr().out), layout)


def test_every_exit_code_of_the_help_is_described(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--help"])
    codes = re.findall(r"^ +(\d+)  ", capsys.readouterr().out, re.MULTILINE)
    assert re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE) == codes


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_described_for_each_shell(shell: str) -> None:
    assert f"_XENNET_COMPLETE={shell}_source xennet" in PAGE
