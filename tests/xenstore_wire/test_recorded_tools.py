"""The bytes that Debian's tools sent to the C daemon, and what it answered."""

from __future__ import annotations

from pathlib import Path

from wire_talk import Talk, message

from xennet.xenstore import Store
from xennet.xenstore.handlers import Server

RECORD = Path(__file__).parents[1] / "data" / "xenstored" / "cli_tools_raw_bytes.txt"


def sessions() -> list[tuple[str, list[tuple[str, bytes]]]]:
    """(command, [(direction, bytes)]) of each connection; neighbours of a direction joined."""
    found: list[tuple[str, list[tuple[str, bytes]]]] = []
    command = ""
    for line in RECORD.read_text().splitlines():
        if line.startswith("CMD "):
            command = line[4:]
        elif line.startswith("CONN "):
            found.append((command, []))
        else:
            mark, _, data = line.split(" ", 2)
            pieces = found[-1][1]
            if pieces and pieces[-1][0] == mark[-1]:
                pieces[-1] = mark[-1], pieces[-1][1] + bytes.fromhex(data)
            else:
                pieces.append((mark[-1], bytes.fromhex(data)))
    return found


def test_recorded_tools_get_the_recorded_answers() -> None:
    server = Server(Store())
    other = Talk(server)
    differences = []
    recorded = sessions()
    for command, pieces in recorded:
        talk = Talk(server)
        for direction, data in pieces:
            if direction == ">":
                talk.session.receive(data)
                continue
            if b"/w2/x\0" in data:
                # Somebody else wrote there while xenstore-watch ran.
                other.send(message("WRITE", b"/w2/x\x001"))
            answer = b""
            while talk.session.pending:
                answer += talk.session.take()
                talk.session.resume()
            if answer != data:
                differences.append((command, data, answer))
        talk.session.close()
    assert differences == []
    assert len(recorded) == 18
