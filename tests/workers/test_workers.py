"""A function is mapped over items by workers, some of which die."""

from __future__ import annotations

import itertools
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import worker_functions

from xennet.workers.chosen import InProcess, open_workers
from xennet.workers.mapping import Workers, WorkersError
from xennet.workers.processes import Processes


@pytest.fixture(scope="module")
def processes() -> Iterator[Processes]:
    workers = Processes(2)
    yield workers
    workers.close()


@pytest.fixture(params=["this process", "processes"])
def workers(request: pytest.FixtureRequest, processes: Processes) -> Workers:
    return InProcess() if request.param == "this process" else processes


def test_results_come_in_the_order_of_items(workers: Workers) -> None:
    assert list(workers.map(worker_functions.square, range(50))) == [i * i for i in range(50)]
    assert list(workers.map(worker_functions.square, [])) == []


def test_what_the_function_raises_is_raised(workers: Workers) -> None:
    with pytest.raises(ValueError, match=r"^so$"):
        list(workers.map(worker_functions.fail, ["so"]))
    assert list(workers.map(worker_functions.square, [3])) == [9]


def test_items_are_taken_as_they_are_needed(workers: Workers) -> None:
    results = workers.map(worker_functions.square, itertools.count())
    assert list(itertools.islice(results, 5)) == [0, 1, 4, 9, 16]
    # What is left undone disturbs nobody.
    assert list(workers.map(worker_functions.square, [7, 8])) == [49, 64]


def test_other_processes_do_the_work(processes: Processes) -> None:
    done_by = set(processes.map(worker_functions.pid, range(20)))
    assert done_by <= set(processes.pids)
    assert os.getpid() not in done_by
    assert len(processes.pids) == 2


def test_an_exception_that_cannot_be_made_anew_is_told_in_words(processes: Processes) -> None:
    with pytest.raises(WorkersError, match=r"^CannotBeMadeAnewError: odd one$"):
        list(processes.map(worker_functions.fail_oddly, ["one"]))


def test_a_worker_that_dies_is_replaced_and_its_item_is_done(
    processes: Processes, tmp_path: os.PathLike[str]
) -> None:
    paths = [os.path.join(tmp_path, str(i)) for i in range(4)]
    assert list(processes.map(worker_functions.die_once, paths)) == ["0", "1", "2", "3"]


def test_workers_that_are_killed_between_items_are_replaced(processes: Processes) -> None:
    results = []
    for result in processes.map(worker_functions.square, range(30)):
        results.append(result)
        if result % 5 == 0:
            os.kill(processes.pids[0], signal.SIGKILL)
    assert results == [i * i for i in range(30)]


def test_an_item_that_ends_every_worker_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("xennet.workers.processes.MAX_DEATHS", 2)
    with (
        closing(Processes(2)) as processes,  # none of which has died before
        pytest.raises(WorkersError, match="item 0 has ended 2 workers"),
    ):
        list(processes.map(worker_functions.die, [str(tmp_path)]))
    assert len(list(tmp_path.iterdir())) == 2


def test_workers_end_with_the_process_that_gives_work() -> None:
    """Its end is SIGKILL: it cannot tell them."""
    code = (
        "from xennet.workers.processes import Processes; import worker_functions, sys;"
        "workers = Processes(2); list(workers.map(worker_functions.square, range(9)));"
        "print(*workers.pids, flush=True); sys.stdin.read()"
    )
    env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env
    ) as process:
        assert process.stdout is not None
        pids = list(map(int, process.stdout.readline().split()))
        descriptors = [os.pidfd_open(pid) for pid in pids]
        process.kill()
    assert len(pids) == 2
    for descriptor in descriptors:
        assert select.select([descriptor], [], [], 60)[0], "a worker has outlived its parent"
        os.close(descriptor)


def test_one_job_needs_no_process() -> None:
    assert isinstance(open_workers(), InProcess)
    workers = open_workers(jobs=3)
    assert isinstance(workers, Processes)
    assert workers.pids == []
