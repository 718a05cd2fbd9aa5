"""What can go wrong between a client and its server, beyond a refused request.

``errno`` is a name, as in every XsError, although some of these are OSErrors too.
"""

from __future__ import annotations

from xennet.xenstore.errors import XsError


class XsTimeoutError(XsError, TimeoutError):  # type: ignore[misc]
    """No answer, or no event, in the time the caller gave. ``errno`` is "ETIMEDOUT", ``path`` that
    of the request, ``detail`` names the request. The connection stays usable."""

    def __init__(self, path: str, detail: str) -> None:
        super().__init__("ETIMEDOUT", path, detail)


class XsConnectionError(XsError, ConnectionError):  # type: ignore[misc]
    """The connection is gone, by the server's doing ("ECONNRESET") or our own ("EBADF")."""

    def __init__(self, path: str, detail: str, errno: str = "ECONNRESET") -> None:
        super().__init__(errno, path, detail)


class XsReplyError(XsError):
    """The server sent what it must not. ``errno`` is "EPROTO".

    A reply that belongs to no request, or frames that cannot be read, end the connection.
    """

    def __init__(self, path: str, detail: str) -> None:
        super().__init__("EPROTO", path, detail)
