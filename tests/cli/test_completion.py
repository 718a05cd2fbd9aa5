"""Completion by the shell's own script, asked as bash and zsh ask, and typed into a real bash."""

from __future__ import annotations

import io
import os
import re
import shlex
import shutil
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path

import pytest
from terminal import Terminal

from xennet.cli import main
from xennet.cli.lifecycle import SCENARIO_NAMES
from xennet.port.spec import SCHEMES


def bash(line: str, directory: Path | None = None, breaks: str = " =:") -> list[str]:
    """What bash gets for the command line ``line``; ``breaks``: its COMP_WORDBREAKS."""
    asked = {"COMP_LINE": line, "COMP_POINT": str(len(line)), "COMP_WORDBREAKS": breaks}
    return _answers("bash_complete", asked, directory)


def zsh(*words: str) -> list[str]:
    """What zsh gets when the last of ``words`` is being completed."""
    asked = {"COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)}
    return _answers("zsh_complete", asked, None)


def _answers(instruction: str, asked: dict[str, str], directory: Path | None) -> list[str]:
    answers = io.TextIOWrapper(io.BytesIO())  # click writes bytes
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(answers):
        for name, value in {**asked, "_XENNET_COMPLETE": instruction}.items():
            patch.setenv(name, value)
        if directory is not None:
            patch.chdir(directory)
        assert main([]) == 0
    answers.seek(0)
    return [word for word in answers.read().split("\n") if word]


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
    assert zsh("xennet", "run", "--guest", "pcap:in.pcap?c") == ["pcap:in.pcap?csum=fix"]


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


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_a_tab_in_bash_completes_kind_file_and_scenario(captures: Path) -> None:
    env = {"PS1": "$ ", "TERM": "dumb", "HOME": str(captures)}
    shell = Terminal(["bash", "--norc", "--noprofile", "-i"], env=env, cwd=captures, columns=200)
    try:
        shell.type(f'xennet() {{ {shlex.quote(sys.executable)} -m xennet "$@"; }}\n')
        shell.type('eval "$(_XENNET_COMPLETE=bash_source xennet)"; echo rea""dy\n')
        shell.until("ready\r\n")
        shell.type("xennet run --guest pc\t")
        shell.until("--guest pcap:")
        shell.type("in\t")  # no blank came behind the colon
        shell.until("in.pcap ")
        shell.type("\x15xennet lifecycle no-s\t")
        shell.until("lifecycle no-script-answer ")
    finally:
        shell.close()
