"""The errors between a client and its server, beside a refused request.

``errno`` is a name, as in every XsError, although some of these are OSErrors as well.
"""

from __future__ import annotations

from xennet.xenstore.errors import XsError


class XsTimeoutError(XsError, TimeoutError):  # type: ignore[misc]
    """No answer, or no event, came within the timeout. The connection stays usable.

    ``errno`` is "ETIMEDOUT", ``path`` that of the request, ``detail`` names the request.
    """

    def __init__(self, path: str, detail: str) -> None:
        super().__init__("ETIMEDOUT", path, detail)


class XsConnectionError(XsError, ConnectionError):  # type: ignore[misc]
    """The connection is lost: the server closed it ("ECONNRESET") or the client did ("EBADF")."""

    def __init__(self, path: str, detail: str, errno: str = "ECONNRESET") -> None:
        super().__init__(errno, path, detail)


class XsReplyError(XsError):
    """The server broke the protocol; ``errno`` is "EPROTO".

    A reply that belongs to no request, or bytes that are no message, end the connection.
    """

    def __init__(self, path: str, detail: str) -> None:
        super().__init__("EPROTO", path, detail)
