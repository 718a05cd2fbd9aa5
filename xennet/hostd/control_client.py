"""The client's side of a host's socket for commands."""

from __future__ import annotations

import errno
import os
import socket

from xennet.hostd.host_directory import HOST_VARIABLE, control_socket, known_directories
from xennet.hostd.json_lines import Json, MessageError, decode, encode

#: Seconds that a host has for an answer besides those that a command waits.
_PATIENCE = 60.0


class NoHostError(Exception):
    """No host answers. The message is one line that says where."""


class RefusedError(Exception):
    """The host has refused a command. The message is what it said."""


def find_host(directory: str | None) -> str:
    """The directory of the host that is meant: ``directory``, else that of the environment, else
    that of the only host that made one for itself. Raises NoHostError."""
    named = directory or os.environ.get(HOST_VARIABLE)
    if named:
        return os.path.abspath(named)
    alive = [path for path in known_directories() if _answers(path)]
    if len(alive) == 1:
        return alive[0]
    if alive:
        raise NoHostError(f"{len(alive)} hosts run, name one with --host: {', '.join(alive)}")
    raise NoHostError(
        f"no host runs; 'xennet host' starts one, --host or ${HOST_VARIABLE} names it"
    )


def request(directory: str, command: str, arguments: Json, wait: float = 0.0) -> Json:
    """Have the host in ``directory`` carry out a command, which may wait for ``wait`` seconds.
    Returns its result.

    Raises RefusedError, or NoHostError if none answers there.
    """
    path = control_socket(directory)
    try:
        with _connected(path) as connection:
            connection.settimeout(wait + _PATIENCE)
            connection.sendall(encode({"command": command, "arguments": arguments}))
            line = connection.makefile("rb").readline()
    except TimeoutError:
        raise NoHostError(f"{path}: the host does not answer") from None
    except (OSError, ValueError) as error:
        reason = os.strerror(error.errno or 0) if isinstance(error, OSError) else str(error)
        raise NoHostError(f"{path}: no host answers: {reason}") from error
    try:
        answer = decode(line)
        result = answer.get("result")
    except MessageError as error:
        raise NoHostError(f"{path}: the host has hung up") from error
    if isinstance(result, dict):
        return result
    raise RefusedError(str(answer.get("error", "an answer without a result")))


def _connected(path: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(_PATIENCE)
        connection.connect(path)
    except OSError as error:
        connection.close()
        if str(error) and error.errno is None:  # a path that is too long
            raise ValueError(str(error)) from error
        raise
    return connection


def _answers(directory: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        # EAGAIN: a host listens, and many clients wait.
        return probe.connect_ex(control_socket(directory)) in (0, errno.EAGAIN)
