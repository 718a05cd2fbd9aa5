"""A campaign on the workers of a dask.distributed cluster."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen
from toy_target import NAME

from xennet.cli import main

pytestmark = pytest.mark.skipif(
    find_spec("distributed") is None, reason="dask.distributed is not installed"
)

#: dask's command, which ends with its parent.
DASK = """
import ctypes, runpy, signal
ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
runpy.run_module("dask", run_name="__main__")
"""
ENV = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
CAMPAIGN = ["--rounds", "3", "--seeds", "3", "--json", "-"]

#: A campaign during which the processes given are killed, one after each unit.
KILLING = """
import json, os, signal, sys
from attrs import asdict
from xennet.fuzz.campaign import Campaign, Settings
from xennet.fuzz.report import document
from xennet.workers.cluster import Cluster

address, name, *pids = sys.argv[1:]
settings = Settings(name, (0, 1, 2), rounds=3)
left = list(map(int, pids))

def tell(statistics):
    if left:
        os.kill(left.pop(), signal.SIGKILL)

workers = Cluster(address)
result = Campaign(settings, tell=tell).run(workers)
workers.close()
assert not left
print(json.dumps(document(settings, result, {}, "")))
"""


@contextmanager
def dask(*args: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process of dask's command, which is gone afterwards."""
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", DASK, *args],
        env=ENV,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@frozen
class DaskCluster:
    address: str
    scheduler: subprocess.Popen[bytes]
    workers: tuple[subprocess.Popen[bytes], ...]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[DaskCluster]:
    """A scheduler and three workers of one thread each."""
    file = tmp_path / "scheduler.json"
    common = ("--no-dashboard", "--scheduler-file", str(file))
    with ExitStack() as closing:
        run = closing.enter_context
        scheduler = run(dask("scheduler", "--host", "127.0.0.1", "--port", "0", *common))
        address = _address(file, scheduler)
        worker = ("worker", address, "--no-nanny", "--no-dashboard", "--nthreads", "1")
        yield DaskCluster(address, scheduler, tuple(run(dask(*worker)) for _ in range(3)))


def _address(file: Path, scheduler: subprocess.Popen[bytes]) -> str:
    deadline = time.monotonic() + 120
    while True:
        assert scheduler.poll() is None
        assert time.monotonic() < deadline
        try:
            address: str = json.loads(file.read_text())["address"]
            return address
        except (FileNotFoundError, ValueError):  # it is not there yet, or not as a whole
            time.sleep(0.02)


def without_time(document: dict[str, Any]) -> dict[str, Any]:
    for name in ("seconds", "executions_per_second"):
        del document["statistics"][name]
    return document


@pytest.fixture
def undisturbed(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    main(["fuzz", NAME, *CAMPAIGN])
    return without_time(json.loads(capsys.readouterr().out))


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command], env=ENV, capture_output=True, text=True, check=False
    )


def test_a_cluster_finds_what_one_process_finds_whatever_dies(
    cluster: DaskCluster, undisturbed: dict[str, Any]
) -> None:
    done = run(["-m", "xennet", "fuzz", NAME, *CAMPAIGN, "--dask", cluster.address])
    assert done.returncode == 1, done.stderr
    assert without_time(json.loads(done.stdout)) == undisturbed
    first, second, _ = (str(worker.pid) for worker in cluster.workers)
    done = run(["-c", KILLING, cluster.address, NAME, first, second])
    assert done.returncode == 0, done.stderr
    assert without_time(json.loads(done.stdout)) == undisturbed
    done = run(["-c", KILLING, cluster.address, NAME, str(cluster.scheduler.pid)])
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith("WorkersError: the dask scheduler is gone")


@pytest.mark.parametrize("address", ["nowhere://127.0.0.1:1", "tcp://127.0.0.1:1"])
def test_an_address_without_a_scheduler_is_told(address: str) -> None:
    code = (
        "import sys; from xennet.workers import cluster; cluster._PATIENCE = 0.1;"
        f"from xennet.cli import main; sys.exit(main(['fuzz', '{NAME}', '--dask', '{address}']))"
    )
    done = run(["-c", code])
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(f"xennet: no dask scheduler at {address}: ")
    assert done.stderr.count("\n") == 1
