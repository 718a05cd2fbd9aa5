"""docs/wireshark.md: its samples run, in one shell, and print what stands below them."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from captures import LIMIT_S, needs_tshark

PAGE = Path(__file__).parents[2] / "docs" / "wireshark.md"
#: A sample: what is run, what it prints.
_SAMPLE = re.compile(r"^```sh\n(.*?)^```\n\n```text\n(.*?)^```\n", re.MULTILINE | re.DOTALL)


@needs_tshark
@pytest.mark.skipif(shutil.which("xenstore-write") is None, reason="there are no xenstore-* tools")
def test_samples_print_what_the_page_says(tmp_path: Path) -> None:
    samples = _SAMPLE.findall(PAGE.read_text())
    assert len(samples) == PAGE.read_text().count("```sh\n") == 4
    program = tmp_path / "bin" / "xennet"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m xennet "$@"\n')
    program.chmod(0o755)
    script = "trap 'kill -9 $SERVER 2>/dev/null || true' EXIT\nset -eo pipefail\nSERVER=\n"
    script += "".join(f"{commands}\necho @@\n" for commands, _ in samples)
    shell = subprocess.Popen(
        ["bash", "-c", script],
        cwd=tmp_path,
        env={
            **os.environ,
            "PATH": f"{program.parent}:{os.environ['PATH']}",
            "XENNET_CACHE_DIR": str(tmp_path / "cache"),
            "PYTHONPATH": str(PAGE.parents[1]),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        out, errors = shell.communicate(timeout=LIMIT_S)
    finally:
        with suppress(ProcessLookupError):  # its server, if it has left one
            os.killpg(shell.pid, signal.SIGKILL)
        shell.wait()
    assert shell.returncode == 0, errors
    printed = out.split("@@\n")
    assert printed[:-1] == [wanted for _, wanted in samples], printed
