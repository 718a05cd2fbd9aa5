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


def test_a_panic_of_the_backend_is_a_bad_verdict_that_names_row_and_delivery(run, monkeypatch):
    def end(*_):
        raise BackendPanic("xnb_recv: no host any more", "A9")

    monkeypatch.setattr(passes, "recv", end)
    status, said = run("--guest", "gen:60x10", "--host", "null:", "--json")
    verdict = json.loads(said)["verdict"]
    assert (verdict["good"], status) == (False, 1)
    assert "xnb_recv: no host any more [A9]" in verdict["reasons"][0]
    assert "domain 0" in verdict["reasons"][0]
