"""The observable events of a running machine, and the hub that hands them to observers.

Every part of the machine emits what it did after it did it, and only if an observer wants it: an
emitter looks at its :class:`Interest` first, so a machine without observers creates no event at
all. Events are frozen records; some packages have records of their own (xennet.vif.ring_events).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, TypeVar, overload

from attrs import frozen

Observer = Callable[[object], None]
_Event = TypeVar("_Event")


class Event:
    """A record of something that happened; each kind is a class of its own."""

    __slots__ = ()
    #: The names of its members.
    __match_args__: ClassVar[tuple[str, ...]] = ()

    def __repr__(self) -> str:
        # One for all kinds: attrs compiles what it writes whenever a program starts.
        members = [f"{name}={getattr(self, name)!r}" for name in self.__match_args__]
        return f"{type(self).__name__}({', '.join(members)})"


@frozen(repr=False)
class Hypercall(Event):
    """A domain made a hypercall.

    ``op`` is the name in the public headers (EVTCHNOP_send, GNTTABOP_copy), ``args`` are the
    arguments without the caller, ``result`` is the result: the negative errno or GNTST_ code of a
    refusal.
    """

    domid: int
    op: str
    args: tuple[object, ...]
    result: object


@frozen(repr=False)
class EventSent(Event):
    """EVTCHNOP_send on ``port``, which leads to ``remote_port`` of ``remote_domid``.

    ``delivered``: this send has set the pending bit, and an upcall is due; the upcall itself is
    :class:`EventDelivered`. False if the send has no effect of its own: the remote port is masked,
    already pending, or gone (then ``remote_port`` is 0, which is never a port).
    """

    domid: int
    port: int
    remote_domid: int
    remote_port: int
    delivered: bool


@frozen(repr=False)
class EventDelivered(Event):
    """A domain's upcall found ``port`` pending. ``handled`` is False if the port has no handler."""

    domid: int
    port: int
    handled: bool


@frozen(repr=False)
class VirqRaised(Event):
    """The hypervisor raised virtual interrupt ``virq`` (VIRQ_*) of a domain that had bound it."""

    domid: int
    virq: int
    port: int


@frozen(repr=False)
class DomainCreated(Event):
    """A domain was created."""

    domid: int
    name: str


@frozen(repr=False)
class DomainShutdown(Event):
    """A domain stopped; ``reason`` is its SHUTDOWN_* code (xen/sched.h)."""

    domid: int
    reason: int


@frozen(repr=False)
class DomainDestroyed(Event):
    """A domain was destroyed; ``zombie``: other domains still have pages of it mapped."""

    domid: int
    zombie: bool


@frozen(repr=False)
class StoreOperation(Event):
    """One request to XenStore and its answer.

    ``who`` is the connection's name, ``op`` the message type (READ, WRITE, ...), ``path`` the path
    ("" if it has none), ``value`` what was carried or answered, ``tx_id`` the transaction (0 =
    none), ``error`` "" or the error's name (ENOENT).
    """

    who: str
    domid: int
    op: str
    path: str
    value: bytes
    tx_id: int
    error: str


@frozen(repr=False)
class ProgramCall(Event):
    """A program of another process made a call of a device file (xennet.exec).

    ``device`` is the path of the file, ``call`` the name of the ioctl (its number in hexadecimal
    if it has none), or open, mmap or munmap; ``result`` is what it got: a negative errno if it was
    refused.
    """

    domid: int
    pid: int
    device: str
    call: str
    result: int


@frozen(repr=False)
class StateChanged(Event):
    """An end of a XenBus device went from state ``old`` to ``new`` (XenbusState numbers)."""

    domid: int
    path: str
    old: int
    new: int


@frozen(repr=False)
class Notification(Event):
    """A push on ``ring`` was announced to the other end (``sent``) or needed no announcement."""

    domid: int
    ring: str
    sent: bool


@frozen(repr=False)
class FramePassed(Event):
    """A driver of a vif took a frame from the endpoint behind it, or gave it one.

    ``domid``: the driver's domain. ``vif``, ``queue``: of which queue ("vif1.0", 0). ``end``:
    "guest" or "host". ``direction``: "in", to be carried by the vif, or "out" of it. ``data``: the
    whole frame; ``flags``, ``gso_size`` and ``gso_type`` as in xennet.frames.FrameBatch.
    """

    domid: int
    vif: str
    queue: int
    end: str
    direction: str
    data: bytes
    flags: int
    gso_size: int
    gso_type: int


@frozen(repr=False)
class FrameFiltered(Event):
    """A backend dropped a frame for a multicast address that its guest did not ask for.

    ``domid``: the backend's domain. ``frontend``: the frontend's directory in the store. ``data``:
    the frame, ``timestamp``: as the host's end gave it.
    """

    domid: int
    frontend: str
    data: bytes
    timestamp: int


@frozen(repr=False)
class DefectStruck(Event):
    """Defect ``row`` of a backend (xennet.netback.xnb) damaged a packet for or from domain
    ``otherend_id``.

    It happened in domain ``domid``; ``what`` happens to such a packet, in words.
    """

    domid: int
    otherend_id: int
    row: str
    what: str


class _Subscription(NamedTuple):
    observer: Observer
    kinds: tuple[type, ...]


class Interest:
    """Whether any observer wants events of one kind: ``any``, which the hub keeps up to date.

    What an emitter on a hot path holds, so that silence costs it a look at an attribute.
    """

    __slots__ = ("any",)

    def __init__(self, any: bool) -> None:
        self.any = any

    def __repr__(self) -> str:
        return f"<Interest {self.any}>"


class Observers:
    """The hub: it hands each event to the observers that want its kind.

    Kinds are the events of this module, and RingEvent and EventsLost of xennet.vif.ring_events.
    ``active`` is True while there is an observer. ``keep`` is given what an observer raises, and
    returns whether it will raise that later (RunLoop.keep). What is no Exception passes: a signal
    that ends a driver which never returns may come while an observer is called.
    """

    __slots__ = ("_interests", "_subscriptions", "_toggles", "active", "keep")

    def __init__(self, keep: Callable[[Exception], bool] = lambda error: False) -> None:
        self.active = False
        self.keep = keep
        self._subscriptions: tuple[_Subscription, ...] = ()
        self._toggles: list[tuple[type, Callable[[bool], None]]] = []
        self._interests: dict[type, Interest] = {}

    def __repr__(self) -> str:
        return f"<Observers {len(self._subscriptions)} subscriptions>"

    def interest(self, kind: type) -> Interest:
        """The interest in events of ``kind``; the same object for every caller."""
        interest = self._interests.get(kind)
        if interest is None:
            interest = self._interests[kind] = Interest(self._wanted(kind))
        return interest

    def wants(self, kind: type) -> bool:
        """Whether an observer wants events of ``kind``."""
        return self.interest(kind).any

    @overload
    def subscribe(self, observer: Observer) -> Callable[[], None]: ...
    @overload
    def subscribe(
        self, observer: Callable[[_Event], None], kind: type[_Event], /
    ) -> Callable[[], None]: ...
    @overload  # Type checkers do not infer the union of several kinds.
    def subscribe(
        self, observer: Callable[[Any], None], kind: type, second: type, /, *more: type
    ) -> Callable[[], None]: ...
    def subscribe(self, observer: Callable[[Any], None], *kinds: type) -> Callable[[], None]:
        """Call ``observer(event)`` for each event (of one of ``kinds``, if given), in the order of
        emission.

        Returns the function that ends the subscription; it may be called twice. The first Exception
        of an observer within a delivery is raised by the run loop when the delivery has been made,
        as what emitted the event is in the middle of something; outside of deliveries it is raised
        by the call that emitted the event.
        """
        subscription = _Subscription(observer, kinds)
        self._set((*self._subscriptions, subscription))

        def unsubscribe() -> None:
            self._set(tuple(s for s in self._subscriptions if s is not subscription))

        return unsubscribe

    def on_toggle(self, kind: type, callback: Callable[[bool], None]) -> None:
        """Call ``callback()`` now, and whenever the answer of :meth:`wants` for ``kind`` may have
        changed.

        This is for emitters that hold no reference to the hub while there are no observers.
        """
        self._toggles.append((kind, callback))
        callback(self.wants(kind))

    def emit(self, event: object) -> None:
        """Hand ``event`` to every observer that wants its kind."""
        for subscription in self._subscriptions:
            if not subscription.kinds or isinstance(event, subscription.kinds):
                try:
                    subscription.observer(event)
                except Exception as error:
                    if not self.keep(error):
                        raise

    def _set(self, subscriptions: tuple[_Subscription, ...]) -> None:
        self._subscriptions = subscriptions
        self.active = bool(subscriptions)
        for kind, interest in self._interests.items():
            interest.any = self._wanted(kind)
        for kind, toggle in self._toggles:
            toggle(self.wants(kind))

    def _wanted(self, kind: type) -> bool:
        return any(not s.kinds or issubclass(kind, s.kinds) for s in self._subscriptions)
