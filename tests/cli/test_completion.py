"""Completion by the shell's own script, asked as bash and zsh ask, and typed into a real bash."""

from __future__ import annotations

import os
import pty
import re
import select
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from xennet.cli.lifecycle import SCENARIO_NAMES
from xennet.port.spec import SCHEMES


def bash(line: str, directory: Path | None = None, breaks: str = " =:") -> list[str]:
    """What bash gets for the command line ``line``; ``breaks``: its COMP_WORDBREAKS."""
    env = {
        **os.environ,
        "_XENNET_COMPLETE": "bash_complete",
        "COMP_LINE": line,
        "COMP_POINT": str(len(line)),
        "COMP_WORDBREAKS": breaks,
    }
    return _asked(env, directory)


def zsh(*words: str) -> list[str]:
    """What zsh gets when the last of ``words`` is being completed."""
    env = {
        **os.environ,
        "_XENNET_COMPLETE": "zsh_complete",
        "COMP_WORDS": " ".join(words),
        "COMP_CWORD": str(len(words) - 1),
    }
    return _asked(env, None)


def _asked(env: dict[str, str], directory: Path | None) -> list[str]:
    command = [sys.executable, "-m", "xennet"]
    asked = subprocess.run(command, env=env, cwd=directory, capture_output=True, text=True)
    assert asked.stderr == ""
    return asked.stdout.rstrip("\n").split("\n") if asked.stdout.strip() else []


@pytest.fixture
def captures(tmp_path: Path) -> Path:
    """A directory with in.pcap, "a b.pcap", a hidden file and a directory of more."""
    for name in ("in.pcap", "a b.pcap", ".hidden"):
        (tmp_path / name).touch()
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "x.pcapng").touch()
    return tmp_path


def test_commands_and_options_are_completed() -> None:
    assert bash("xennet li") == ["lifecycle"]
    assert bash("xennet xs re") == ["read"]
    assert "--backend" in bash("xennet run --ba")
    assert bash("xennet run --backend ") == ["linux", "xnb"]


def test_scenarios_are_completed() -> None:
    assert bash("xennet lifecycle mig") == ["migration"]
    assert bash("xennet lifecycle ") == list(SCENARIO_NAMES)
    assert zsh("xennet", "lifecycle", "host") == ["hostile-packet", "hostile-response"]


def test_kinds_of_ports_are_completed() -> None:
    assert bash("xennet run --guest ") == [f"{name}:" for name in SCHEMES]
    assert bash("xennet run --guest=pc") == ["pcap:"]
    assert zsh("xennet", "run", "--guest", "pc") == ["pcap:"]
    assert zsh("xennet", "run", "--guest=pc") == ["--guest=pcap:"]


def test_behind_a_plus_stands_what_may_be_joined() -> None:
    # bash takes what follows the last colon for the word.
    assert bash("xennet run --guest pcap:in.pcap+") == ["in.pcap+record:", "in.pcap+null:"]
    assert bash("xennet run --guest record:out.pcap+g") == ["out.pcap+gen:"]


def test_files_of_a_capture_are_completed(captures: Path) -> None:
    run = "xennet run --guest pcap:"
    assert bash(run, captures) == [r"a\ b.pcap", "in.pcap", "more/"]
    assert bash(f"{run}in", captures) == ["in.pcap"]
    assert bash(f"{run}more/", captures) == ["more/x.pcapng"]
    assert bash(f"{run}.h", captures) == [".hidden"]
    assert bash(f"{run}{captures}/m") == [f"{captures}/more/"]
    assert bash(f"{run}none/", captures) == []
    assert bash("xennet run --guest gen:", captures) == []


def test_a_word_that_is_quoted_or_that_bash_does_not_break_is_whole(captures: Path) -> None:
    assert bash(r"xennet run --guest pcap:a\ b", captures) == [r"a\ b.pcap"]
    assert bash("xennet run --guest pcap:in", captures, breaks=" ") == ["pcap:in.pcap"]


def test_scenarios_are_completed_without_loading_them() -> None:
    script = (
        "import atexit, sys; from xennet.cli import main;"
        "atexit.register(lambda: print(*(name for name in sys.modules if 'xennet.' in name)));"
        "main()"
    )
    env = {**os.environ, "_XENNET_COMPLETE": "zsh_complete"}
    env |= {"COMP_WORDS": "xennet lifecycle mig", "COMP_CWORD": "2"}
    command = [sys.executable, "-c", script]
    asked = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    completed, modules = asked.stdout.splitlines()
    assert completed == "migration"
    assert "xennet.cli.lifecycle" in modules.split()
    assert not re.search(r"xennet\.(lifecycle|link|hypervisor)", modules)


# --- typed ----------------------------------------------------------------------------------------


class Typed:
    """An interactive bash on a terminal of its own, with the completion script in it."""

    def __init__(self, directory: Path) -> None:
        self.master, slave = pty.openpty()
        env = {"PATH": os.environ["PATH"], "PS1": "$ ", "TERM": "dumb", "HOME": str(directory)}
        self.shell = subprocess.Popen(
            ["bash", "--norc", "--noprofile", "-i"],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=env,
            cwd=directory,
            start_new_session=True,
        )
        os.close(slave)
        self.screen = ""
        self.type(f'xennet() {{ {shlex.quote(sys.executable)} -m xennet "$@"; }}\n')
        self.type('eval "$(_XENNET_COMPLETE=bash_source xennet)"; echo rea""dy\n')
        self.until("ready\r\n")

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def until(self, text: str) -> str:
        """What the screen got until ``text`` came, without it."""
        deadline = time.monotonic() + 60
        while text not in self.screen:
            assert select.select([self.master], [], [], max(deadline - time.monotonic(), 0))[0], (
                self.screen
            )
            self.screen += os.read(self.master, 4096).decode()
        before, _, self.screen = self.screen.partition(text)
        return before

    def close(self) -> None:
        self.shell.kill()
        self.shell.wait()
        os.close(self.master)


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_a_tab_in_bash_completes_kind_file_and_scenario(captures: Path) -> None:
    typed = Typed(captures)
    try:
        typed.type("xennet run --guest pc\t")
        typed.until("--guest pcap:")
        typed.type("in\t")  # no blank came behind the colon
        typed.until("in.pcap ")
        typed.type("\x15xennet lifecycle no-s\t")
        typed.until("lifecycle no-script-answer ")
    finally:
        typed.close()
