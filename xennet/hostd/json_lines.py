"""Messages of the control socket: JSON objects, one in a line.

A client sends requests, ``{"command": NAME, "arguments": {...}}``, and gets an answer to each, in
order: ``{"result": {...}}``, or ``{"error": TEXT}`` with the reason why nothing was done. An answer
comes when the command has come to its end, so it may take a while.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

#: Bytes of a request at most, without the end of the line.
LONGEST = 64 << 10

Json = dict[str, Any]


class MessageError(Exception):
    """A line is no message. The text says why."""


def encode(message: Mapping[str, Any]) -> bytes:
    """The line of a message."""
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def decode(line: bytes | bytearray) -> Json:
    """The message of a line. Raises MessageError."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise MessageError(f"a line that is no JSON: {type(error).__name__}: {error}") from error
    if not isinstance(message, dict):
        raise MessageError(f"JSON that is no object but of type {type(message).__name__}")
    return message


def decode_request(line: bytes | bytearray) -> tuple[str, Json]:
    """The command and the arguments of a request. Raises MessageError."""
    message = decode(line)
    command, arguments = message.pop("command", None), message.pop("arguments", {})
    if not isinstance(command, str):
        raise MessageError(f"a request without the name of a command: {command!r}"[:200])
    if not isinstance(arguments, dict):
        raise MessageError(f"arguments that are no object: {arguments!r}"[:200])
    if message:
        raise MessageError(f"a request with unknown parts: {', '.join(map(repr, message))}"[:200])
    return command, arguments
