"""Workers of a dask.distributed cluster."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from uuid import uuid4

from xennet.workers.mapping import MAX_DEATHS, R, T, WorkersError

#: Seconds for the scheduler to answer.
_PATIENCE = 60


async def _answers(address: str) -> None:
    """Raises OSError or ValueError if nobody listens at ``address``. A Client that finds out by
    itself hinders the end of the process for minutes."""
    from distributed.comm import connect

    comm = await connect(address, timeout=_PATIENCE)
    comm.abort()


class Cluster:
    """The workers of the scheduler at ``address``, "tcp://HOST:PORT". Raises WorkersError."""

    def __init__(self, address: str) -> None:
        try:
            from distributed import Client
        except ImportError:
            raise WorkersError(
                "dask.distributed is not installed: pip install 'xennet[campaign]'"
            ) from None
        # What goes wrong is told by exceptions, and not pages of tracebacks beside them.
        logging.getLogger("distributed.client").setLevel(logging.CRITICAL)
        try:
            asyncio.run(_answers(address))
            self._client: Any = Client(address, timeout=_PATIENCE, set_as_default=False)
        except (OSError, ValueError, TypeError) as error:
            raise WorkersError(f"no dask scheduler at {address}: {error}") from error

    def map(self, function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        name = uuid4().hex
        with self._scheduler_alive():
            submitted = [
                (item, self._submit(function, item, f"{name}-{i}")) for i, item in enumerate(items)
            ]
        for i, (item, future) in enumerate(submitted):
            with self._scheduler_alive():
                result = self._result(function, item, future, f"{name}-{i}")
            yield result

    def close(self) -> None:
        self._client.close()

    def _submit(self, function: Callable[[T], R], item: T, key: str) -> Any:
        return self._client.submit(function, item, key=key, pure=False)

    def _result(self, function: Callable[[T], R], item: T, future: Any, key: str) -> R:
        """The result of ``future``. A task during which several workers died, which the scheduler
        gives up, is submitted again."""
        from distributed.scheduler import KilledWorker

        for again in range(MAX_DEATHS):
            if again:
                future = self._submit(function, item, f"{key}-{again}")
            with suppress(KilledWorker):
                result: R = future.result()
                return result
        raise WorkersError(f"{item!r:.80} has ended {MAX_DEATHS} times all workers that took it")

    @contextmanager
    def _scheduler_alive(self) -> Iterator[None]:
        """A context in which the end of the scheduler is a WorkersError, however it shows."""
        from concurrent.futures import CancelledError

        from distributed.comm import CommClosedError

        try:
            yield
        except Exception as error:
            lost = isinstance(error, CancelledError | CommClosedError)
            if lost or self._client.status != "running":
                raise WorkersError("the dask scheduler is gone") from error
            raise
