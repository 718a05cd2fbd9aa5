"""``xennet run --backend xnb``: good with either frontend, and a panic is a verdict."""

from __future__ import annotations

import json

import pytest

from xennet.cli import main
from xennet.netback.xnb import BackendPanic, passes


@pytest.fixture
def run(capsys):
    """Exit status and standard output of ``xennet run --backend xnb ...``."""

    def call(*args: str) -> tuple[int, str]:
        status = main(["run", "--backend", "xnb", *args])
        return status, capsys.readouterr().out

    return call


@pytest.mark.parametrize("frontend", ["linux", "freebsd"])
@pytest.mark.parametrize(
    "ports",
    [
        ("--guest", "gen:60x100", "--host", "null:"),
        ("--guest", "gen:1500x100", "--host", "echo:"),
        ("--guest", "null:", "--host", "gen:9000x50"),
    ],
    ids=["up", "echo", "down"],
)
def test_frames_cross_a_vif_of_the_seed(run, frontend, ports):
    status, said = run(*ports, "--frontend", frontend, "--quiet")
    assert (status, said.splitlines()[0]) == (0, "GOOD")


@pytest.mark.parametrize("frontend", ["linux", "freebsd"])
def test_B4_tears_segmented_frames_of_three_slots_and_the_verdict_names_the_defect(run, frontend):
    ports = ("--guest", "null:", "--host", "tcp:20000x7", "--frontend", frontend)
    status, said = run(*ports, "--json")
    report = json.loads(said)
    assert (status, report["verdict"]["good"]) == (1, False)
    # Each frame comes as one of 16384 bytes and one of 3616.
    down = report["directions"][1]
    assert (down["frames_sent"], down["frames_received"]) == (7, 14)
    assert "received 16384 bytes" in down["evidence"][0]["problem"]
    assert "received 3616 bytes" in down["evidence"][1]["problem"]
    assert [(defect["row"], defect["packets"]) for defect in report["defects"]] == [("B4", 7)]
    assert report["verdict"]["reasons"][0].startswith("defect B4 of the xnb backend: a segmented")


def test_B4_needs_no_more_than_a_byte_in_a_third_slot_and_no_feature(run):
    status, said = run("--guest", "null:", "--host", "tcp:8193x1", "--no-gso", "--quiet")
    assert status == 1
    assert "defect B4" in said


@pytest.mark.parametrize("host", ["tcp:8192x7", "gen:20000x7", "tcp6:20000x7"])
def test_B4_spares_two_slots_and_what_is_not_segmented(run, host):
    status, said = run("--guest", "null:", "--host", host, "--json")
    assert (status, json.loads(said)["defects"]) == (0, [])


def test_windows_does_not_connect_to_the_seed_which_shows_InitWait_once(run):
    """xnb_frontend_changed does nothing about Initialising, so a frontend that closes before it
    first connects waits for ever."""
    status, said = run("--guest", "null:", "--host", "null:", "--frontend", "windows", "--json")
    reason = json.loads(said)["verdict"]["reasons"][0]
    assert status == 1
    assert reason.startswith("the vif did not connect: ")
    assert "device/vif/0/state = Initialising (1)" in reason
    assert "backend/vif/1/0/state = Closed (6)" in reason
    assert "the windows frontend, Initialising (1), waits for InitWait (2)" in reason
    assert (
        "nothing is done about Initialising (1) by the xnb backend: InitWait is shown once"
        in reason
    )


def test_a_panic_of_the_backend_is_a_bad_verdict_that_names_row_and_delivery(run, monkeypatch):
    def end(*_):
        raise BackendPanic("xnb_recv: no host any more", "A9")

    monkeypatch.setattr(passes, "recv", end)
    status, said = run("--guest", "gen:60x10", "--host", "null:", "--json")
    verdict = json.loads(said)["verdict"]
    assert (verdict["good"], status) == (False, 1)
    assert "xnb_recv: no host any more [A9]" in verdict["reasons"][0]
    assert "domain 0" in verdict["reasons"][0]
