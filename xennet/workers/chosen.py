"""Which workers: those that a command line names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from xennet.workers.mapping import R, T, Workers


class InProcess:
    """This process does the work, item by item."""

    def map(self, function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        yield from map(function, items)

    def close(self) -> None:
        pass


def open_workers(jobs: int = 1, dask: str | None = None) -> Workers:
    """Workers: those of the dask.distributed scheduler at ``dask``, or ``jobs`` processes of this
    machine, or this process for 1. Raises WorkersError."""
    if dask is not None:
        from xennet.workers.cluster import Cluster

        return Cluster(dask)
    if jobs == 1:
        return InProcess()
    from xennet.workers.processes import Processes

    return Processes(jobs)
