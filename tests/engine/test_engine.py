"""Choosing an engine, and what importing costs."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

from xennet.engine import choice as engine
from xennet.engine.kernel import network_words


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """What ``code`` does in a process of its own, with the engine that is there by default."""
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "XENNET_ENGINE": "", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_importing_the_program_loads_neither_numpy_nor_numba() -> None:
    result = python(
        "import sys, xennet, xennet.cli, xennet.engine.choice;"
        "import xennet.netback.queue, xennet.netfront.queue;"
        "print([m for m in ('numpy', 'numba') if m in sys.modules])"
    )
    assert result.stdout.strip() == "[]", result.stderr


def test_a_plain_run_loads_neither_numpy_nor_numba() -> None:
    code = (
        "import sys; from xennet.cli import main;"
        "assert main(['run', '--quiet', '--guest', 'gen:60x10', '--host', 'null:']) == 0;"
        "sys.exit('numpy' in sys.modules or 'numba' in sys.modules)"
    )
    assert python(code, XENNET_ENGINE="plain").returncode == 0


def test_the_environment_forces_the_plain_engine() -> None:
    result = python(
        "from xennet.engine.choice import current; print(current().name)", XENNET_ENGINE="plain"
    )
    assert result.stdout.strip() == "plain"


def test_an_unknown_engine_is_named_with_those_that_exist() -> None:
    with pytest.raises(engine.EngineError, match="no engine 'warp'; there are: plain, fast"):
        engine.named("warp")


def test_fast_without_numba_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "find_spec", lambda name: None)
    with pytest.raises(engine.EngineError, match=r"xennet\[fast\]"):
        engine.named("fast")


def test_without_numba_the_plain_engine_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "find_spec", lambda name: None)
    monkeypatch.setattr(engine, "_selected", None)
    monkeypatch.delenv(engine.VARIABLE, raising=False)
    assert engine.current().name == "plain"


@pytest.mark.skipif(find_spec("numba") is None, reason="numba is not installed: no fast engine")
def test_with_numba_the_fast_engine_is_taken() -> None:
    result = python("from xennet.engine.choice import current; print(current().name)")
    assert result.stdout.strip() == "fast", result.stderr


def test_a_run_with_an_engine_that_cannot_be_had_is_bad_input() -> None:
    code = (
        "import sys; from xennet.cli import main;"
        "sys.exit(main(['run', '--guest', 'gen:60x10', '--host', 'null:']))"
    )
    result = python(code, XENNET_ENGINE="warp")
    assert result.returncode == 2
    assert "there is no engine 'warp'" in result.stderr
    assert "Traceback" not in result.stderr


def test_info_names_the_engine() -> None:
    code = "from xennet.cli import main; main(['info'])"
    assert "engine     plain" in python(code, XENNET_ENGINE="plain").stdout


def test_the_plain_engine_hands_back_what_it_is_given() -> None:
    view = memoryview(bytearray(8))
    assert engine.PLAIN.view(view) is view
    assert engine.PLAIN.kernel(python) is python


@pytest.mark.parametrize("name", ["plain", "fast"])
def test_words_of_a_network_are_big_endian_wherever_they_begin(name: str) -> None:
    octets = bytes(range(0x7B, 0xFF, 11))
    with engine.using(name) as way:
        words = way.kernel(network_words)
        view = way.view(memoryview(bytearray(b"\xff" * 3 + octets)))
        assert tuple(words(view, 3)) == (0x7B86919C, 0xA7B2, 0xBDC8, 0xD3DEE9F4)
