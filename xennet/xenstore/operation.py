"""The record of one request for observers, and the decorator of every request."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache, wraps
from types import CodeType, FunctionType
from typing import Any, Concatenate, NamedTuple, ParamSpec, Protocol, TypeVar, cast

from xennet.xenstore.errors import XsError
from xennet.xenstore.quota import QuotaError, Refusal


class StoreOp(NamedTuple):
    """One finished request.

    ``who`` is the connection's name, ``op`` the message type without XS_ ("WRITE"), ``path`` the
    path as it was given, ``tx`` the transaction id (that of a TRANSACTION_START is the new one),
    ``errno`` the name of the error or None. ``value`` is what a WRITE, SET_PERMS, WATCH (its token)
    or TRANSACTION_END (T or F) carried; for other requests it is the answer. Lists are joined by
    nuls.
    """

    who: str
    domid: int
    op: str
    path: str
    value: bytes
    tx: int
    errno: str | None


Observer = Callable[[StoreOp], None]


class Requested(Protocol):
    """A store as the decorator of requests sees it."""

    observer: Observer | None

    @property
    def woken(self) -> Mapping[Any, None]: ...
    def wake(self) -> None: ...


class Requester(Protocol):
    """A connection as the decorator of its requests sees it."""

    name: str

    @property
    def domid(self) -> int: ...
    @property
    def store(self) -> Requested: ...
    @property
    def replays(self) -> bool: ...
    def record(self, op: str, tx: int, perform: Callable[[], Any], /) -> Any: ...
    def over_quota(self, refusal: Refusal) -> None: ...


_R = TypeVar("_R", bound=Requester)
_P = ParamSpec("_P")
_T = TypeVar("_T")

_CARRIED = ("value", "perms", "token", "commit")


def request(
    op: str,
) -> Callable[[Callable[Concatenate[_R, _P], _T]], Callable[Concatenate[_R, _P], _T]]:
    """Make a method the request ``op`` of a connection.

    A finished request is shown to the observer, if there is one. The sinks of connections that got
    events are called after that, so they may use the store themselves.
    """

    def decorate(
        method: Callable[Concatenate[_R, _P], _T],
    ) -> Callable[Concatenate[_R, _P], _T]:
        function = cast(FunctionType, method)
        code = function.__code__
        names = code.co_varnames[1 : code.co_argcount]

        def shown(self: _R, *args: _P.args, **kwargs: _P.kwargs) -> _T:
            store = self.store
            observer = store.observer
            given: dict[str, Any] = dict(zip(names, args, strict=True))
            errno: str | None = None
            result: Any = None
            try:
                if self.replays:
                    tx = given.get("tx", 0)
                    result = self.record(op, tx, lambda: method(self, *args, **kwargs))
                else:
                    result = method(self, *args, **kwargs)
            except XsError as error:
                errno = error.errno
                if isinstance(error, QuotaError):
                    self.over_quota(error.refusal)
                raise
            finally:
                try:
                    if observer is not None:
                        observer(_record(self, op, given, result, errno))
                finally:
                    store.wake()
            answer: _T = result
            return answer

        space: dict[str, Any] = {"__name__": __name__, "QuotaError": QuotaError}
        space.update(method=method, shown=shown)
        exec(_frame(", ".join(names)), space)
        space["framed"].__defaults__ = function.__defaults__
        return cast("Callable[Concatenate[_R, _P], _T]", wraps(method)(space["framed"]))

    return decorate


# Text, with the parameters of the request: every request comes along here, and to pass on whatever
# arguments came takes twice as long.
_FRAME = """
def framed(self, {names}):
    store = self.store
    if store.observer is not None or self.replays:
        return shown(self, {names})
    try:
        return method(self, {names})
    except QuotaError as error:
        self.over_quota(error.refusal)
        raise
    finally:
        if store.woken:
            store.wake()
"""


@cache
def _frame(names: str) -> CodeType:
    return compile(_FRAME.format(names=names), "<request>", "exec")


def _record(
    who: Requester, op: str, given: dict[str, Any], result: Any, errno: str | None
) -> StoreOp:
    carried = next((given[name] for name in _CARRIED if name in given), result)
    started = op == "TRANSACTION_START" and errno is None
    return StoreOp(
        who=who.name,
        domid=who.domid,
        op=op,
        path=str(given.get("path", given.get("domid", ""))),
        value=_payload(carried),
        tx=result if started else given.get("tx", 0),
        errno=errno,
    )


def _payload(value: Any) -> bytes:
    if value is None:
        return b""
    if isinstance(value, bytes):
        return value
    if isinstance(value, bool):
        return b"T" if value else b"F"
    if isinstance(value, Iterable) and not isinstance(value, str):
        return b"\0".join(_payload(item) for item in value)
    return str(value).encode(errors="surrogateescape")
