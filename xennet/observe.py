"""What can be seen of a running machine: typed events and the hub that hands them out.

Every room tells the hub what it did, after it did it, and only when somebody listens: an emitter
asks :meth:`Observers.wants` first, so a machine without observers builds no event at all. Events
are frozen records; a room may also emit records of its own (netback's packet events, for example).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, overload

from attrs import field, frozen

Observer = Callable[[object], None]
_Event = TypeVar("_Event")


@frozen
class Hypercall:
    """A domain made a hypercall.

    ``op`` is the name in the public headers (EVTCHNOP_send, GNTTABOP_copy), ``args`` what it was
    called with (without the caller), ``result`` what came back: the negative errno or GNTST_ code
    of a refusal.
    """

    domid: int
    op: str
    args: tuple[object, ...]
    result: object


@frozen
class EventSent:
    """EVTCHNOP_send on ``port``, which leads to ``remote_port`` of ``remote_domid``.

    ``delivered``: this send has set the pending bit, and the domain is to be called; it has been
    called when :class:`EventDelivered` comes. False when the send has no effect of its own: the
    remote port is masked, already pending, or gone (then ``remote_port`` is 0, which is never one).
    """

    domid: int
    port: int
    remote_domid: int
    remote_port: int
    delivered: bool


@frozen
class EventDelivered:
    """The domain's upcall found ``port`` pending; ``handled`` is False when it had no handler."""

    domid: int
    port: int
    handled: bool


@frozen
class VirqRaised:
    """The hypervisor raised virtual interrupt ``virq`` (VIRQ_*) of a domain that had bound it."""

    domid: int
    virq: int
    port: int


@frozen
class DomainCreated:
    """A domain exists from now on."""

    domid: int
    name: str


@frozen
class DomainShutdown:
    """A domain stopped running; ``reason`` is its SHUTDOWN_* code (xen/sched.h)."""

    domid: int
    reason: int


@frozen
class DomainDestroyed:
    """A domain was killed; ``zombie`` while others still have pages of it mapped."""

    domid: int
    zombie: bool


@frozen
class StoreOperation:
    """One request to XenStore and how it was answered.

    ``who`` is the connection's name, ``op`` the wire name (READ, WRITE, ...), ``path`` what it is
    about ("" where it has none), ``value`` what was carried or answered, ``tx_id`` the transaction
    (0 = none), ``error`` "" or the error's name (ENOENT).
    """

    who: str
    domid: int
    op: str
    path: str
    value: bytes
    tx_id: int
    error: str


@frozen
class StateChanged:
    """A XenBus device end went from state ``old`` to ``new`` (XenbusState numbers)."""

    domid: int
    path: str
    old: int
    new: int


@frozen
class Notification:
    """A push on ``ring`` was announced to the other end (``sent``) or needed no announcement."""

    domid: int
    ring: str
    sent: bool


@frozen
class FrameFiltered:
    """A backend dropped a frame for a multicast group whose address its guest did not ask for.

    ``domid``: the backend's domain. ``frontend``: the frontend's directory in the store. ``data``:
    the frame, ``timestamp``: as the host's end gave it.
    """

    domid: int
    frontend: str
    data: bytes
    timestamp: int


@frozen
class _Subscription:
    observer: Observer
    kinds: tuple[type, ...] = field(default=())


class Observers:
    """Who wants to see events: those of this module, and the RingEvent and EventsLost of
    xennet.vif.ring_events. ``active`` is True while anybody does."""

    __slots__ = ("_subscriptions", "_toggles", "_wanted", "active")

    def __init__(self) -> None:
        self.active = False
        self._subscriptions: tuple[_Subscription, ...] = ()
        self._toggles: list[tuple[type, Callable[[bool], None]]] = []
        self._wanted: dict[type, bool] = {}

    def wants(self, kind: type) -> bool:
        """Whether anybody would see an event of ``kind``: what an emitter in a hot place asks."""
        wanted = self._wanted.get(kind)
        if wanted is None:
            wanted = self._wanted[kind] = any(
                not s.kinds or issubclass(kind, s.kinds) for s in self._subscriptions
            )
        return wanted

    @overload
    def subscribe(self, observer: Observer) -> Callable[[], None]: ...
    @overload
    def subscribe(
        self, observer: Callable[[_Event], None], kind: type[_Event], /
    ) -> Callable[[], None]: ...
    @overload  # Checkers do not find the union of several kinds.
    def subscribe(
        self, observer: Callable[[Any], None], kind: type, second: type, /, *more: type
    ) -> Callable[[], None]: ...
    def subscribe(self, observer: Callable[[Any], None], *kinds: type) -> Callable[[], None]:
        """Call ``observer`` with each event (of one of ``kinds``, when given), in emission order.

        Returns the function that ends the subscription; calling that twice is harmless. An
        exception of an observer reaches whoever made the emitting call.
        """
        subscription = _Subscription(observer, kinds)
        self._set((*self._subscriptions, subscription))

        def unsubscribe() -> None:
            self._set(tuple(s for s in self._subscriptions if s is not subscription))

        return unsubscribe

    def on_toggle(self, kind: type, callback: Callable[[bool], None]) -> None:
        """Call ``callback`` now and whenever it may have changed whether anybody wants ``kind``.

        For emitters that would rather hold no reference to the hub while nobody listens.
        """
        self._toggles.append((kind, callback))
        callback(self.wants(kind))

    def emit(self, event: object) -> None:
        """Hand ``event`` to every subscriber that wants its kind."""
        for subscription in self._subscriptions:
            if not subscription.kinds or isinstance(event, subscription.kinds):
                subscription.observer(event)

    def _set(self, subscriptions: tuple[_Subscription, ...]) -> None:
        self._subscriptions = subscriptions
        self._wanted.clear()
        self.active = bool(subscriptions)
        for kind, toggle in self._toggles:
            toggle(self.wants(kind))
