"""An endpoint that keeps a driver from taking frames before its link carries them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from xennet.frames import (
    BaseEndpoint,
    DrivesRings,
    Endpoint,
    FrameBatch,
    RingPair,
    Wrapper,
    pull_at_most,
)


class Hold(Wrapper):
    """An endpoint that gives no frames until it is ``flowing``, or at most ``allowance`` frames.

    Drivers send as soon as they are connected; a link brings them up first, and carries later.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__(endpoint)
        self.allowance = 0
        self._flowing = False

    @property
    def flowing(self) -> bool:
        """Whether nothing is held back: pull and push are then the endpoint's own."""
        return self._flowing

    @flowing.setter
    def flowing(self, flowing: bool) -> None:
        self._flowing = flowing
        own = vars(self)
        if flowing:
            own["pull"], own["push"] = self._direct()
        else:
            own.pop("pull", None)
            own.pop("push", None)

    def _direct(self) -> tuple[Callable[[FrameBatch], int], Callable[[FrameBatch], None]]:
        """What pull and push are while nothing is held back."""
        return self.endpoint.pull, self.endpoint.push

    def cut(self) -> None:
        """Give nothing and forget what is pushed from now on: the endpoint is not asked."""
        nobody, own = BaseEndpoint(), vars(self)
        own["pull"], own["push"], self._has_room = nobody.pull, nobody.push, nobody

    def pull(self, batch: FrameBatch) -> int:
        pulled = pull_at_most(self.endpoint, batch, self.allowance) if self.allowance else 0
        self.allowance -= pulled
        return pulled

    def rings(self, queues: Sequence[RingPair]) -> None:
        if isinstance(self.endpoint, DrivesRings):
            self.endpoint.rings(queues)
