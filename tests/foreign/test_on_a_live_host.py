"""A frontend and a backend in C, on a machine that neither of them started."""

from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "host_command"))

from live_hosts import SECONDS, HostProcess, die_with_parent, environment, host_process, until

from xennet.hostd.control_client import request


def start(host: HostProcess, domid: int, *program: str) -> subprocess.Popen[str]:
    words = ["exec", "--host", host.directory, "--domain", str(domid), "--", *program]
    return subprocess.Popen(
        [sys.executable, "-m", "xennet", *words],
        env=environment(),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        preexec_fn=die_with_parent,
    )


def test_two_programs_meet_and_the_host_goes_on(
    programs: dict[str, str], tmp_path: Path, sharing: None
) -> None:
    with ExitStack() as ends, host_process(tmp_path / "d", "--guests", "1") as host:

        def ask(command: str, **arguments: object) -> dict:
            return request(host.directory, command, dict(arguments))

        def started(domid: int, *words: str) -> subprocess.Popen[str]:
            running = ends.enter_context(start(host, domid, *words))
            ends.callback(running.kill)
            return running

        # Two of them ...
        assert ask("create", drivers="other")["domid"] == 2
        ask("attach", domain=2, back="other")
        back = started(0, programs["netback"], "-d", "2", "-e")
        front = started(2, *f"{programs['netfront']} -g 600 -c 300 -n 300".split())
        assert front.wait(SECONDS) == 0
        assert front.stdout is not None
        assert "netfront: 300 sent, 300 received (180000 bytes), 0 failed" in front.stdout.read()
        until(lambda: ask("list")["domains"][2]["state"] == "powered off")
        ask("destroy", domain=2)
        assert back.wait(SECONDS) == 0
        # ... and one of them with xennet's driver.
        ask("attach", domain=1, front="gen:600x300", back="other")
        back = started(0, programs["netback"], "-d", "1", "-e")
        until(lambda: ask("why", domain=1)["frontend"]["frames_out"] == 300)
        assert ask("why", domain=1)["why"] == []
        assert ask("detach", domain=1) == {
            "name": "vif1.0",
            "outcome": "done",
            "forced": False,
            "reason": "",
        }
        assert back.wait(SECONDS) == 0
        assert host.end() == (0, "")
