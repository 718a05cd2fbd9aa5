"""Watch events against replies, and what is suppressed."""

from __future__ import annotations

from wire_talk import Talk, message

WATCH_W = message("WATCH", b"/w\0t\0")


def test_watch_is_acknowledged_before_its_first_event(dom0: Talk) -> None:
    assert dom0.names(WATCH_W) == [("WATCH", b"OK\0"), ("WATCH_EVENT", b"/w\0t\0")]


def test_events_come_before_the_reply_of_the_request_that_caused_them(dom0: Talk) -> None:
    dom0.send(WATCH_W)
    event = ("WATCH_EVENT", b"/w\0t\0")
    below = ("WATCH_EVENT", b"/w/x\0t\0")
    assert dom0.names(message("WRITE", b"/w\0x")) == [event, ("WRITE", b"OK\0")]
    assert dom0.names(message("MKDIR", b"/w/x\0")) == [below, ("MKDIR", b"OK\0")]
    assert dom0.names(message("SET_PERMS", b"/w\0r0\0")) == [event, ("SET_PERMS", b"OK\0")]
    assert dom0.names(message("RM", b"/w/x\0")) == [below, ("RM", b"OK\0")]


def test_events_of_a_commit_come_before_its_reply(dom0: Talk) -> None:
    dom0.send(WATCH_W)
    dom0.ask("TRANSACTION_START", b"\0")
    assert dom0.ask("WRITE", b"/w\0x", tx=1) == b"OK\0"
    assert dom0.names(message("TRANSACTION_END", b"T\0", tx=1)) == [
        ("WATCH_EVENT", b"/w\0t\0"),
        ("TRANSACTION_END", b"OK\0"),
    ]


def test_introduce_and_release_tell_before_they_answer(dom0: Talk) -> None:
    dom0.send(message("WATCH", b"@introduceDomain\0i\0") + message("WATCH", b"@releaseDomain\0r\0"))
    assert dom0.names(message("INTRODUCE", b"7\0001\0009\0")) == [
        ("WATCH_EVENT", b"@introduceDomain\0i\0"),
        ("INTRODUCE", b"OK\0"),
    ]
    assert dom0.names(message("RELEASE", b"7\0")) == [
        ("WATCH_EVENT", b"@releaseDomain\0r\0"),
        ("RELEASE", b"OK\0"),
    ]


def test_event_of_another_client_comes_before_the_answer_to_a_later_request(
    dom0: Talk, dom5: Talk
) -> None:
    dom5.send(message("WATCH", b"x\0t\0"))
    dom0.ask("WRITE", b"/local/domain/5/x\0")
    assert dom5.names(message("READ", b"x\0")) == [
        ("WATCH_EVENT", b"x\0t\0"),
        ("READ", b""),
    ]


def test_equal_event_that_waits_is_not_sent_twice(dom0: Talk, dom5: Talk) -> None:
    dom5.send(message("WATCH", b"x\0t\0"))
    for _ in range(5):
        dom0.ask("WRITE", b"/local/domain/5/x\0")
    assert dom5.names() == [("WATCH_EVENT", b"x\0t\0")]
    dom0.ask("WRITE", b"/local/domain/5/x\0")
    assert dom5.names() == [("WATCH_EVENT", b"x\0t\0")]


def test_taking_a_few_bytes_at_a_time_gives_the_same_stream(dom0: Talk, dom5: Talk) -> None:
    stream = message("WATCH", b"x\0t\0") + message("WRITE", b"y\0v") + message("READ", b"y\0")
    dom5.session.receive(stream)
    dom0.ask("WRITE", b"/local/domain/5/x\0")
    pieces = []
    while dom5.session.pending:
        pieces.append(dom5.session.take(3))
        assert 0 < len(pieces[-1]) <= 3
    event = message("WATCH_EVENT", b"x\0t\0")
    # The second event of x is suppressed: the first one still waits.
    assert b"".join(pieces) == (
        message("WATCH", b"OK\0") + event + message("WRITE", b"OK\0") + message("READ", b"v")
    )


def test_tokens_are_bytes_that_come_back_unchanged(dom0: Talk) -> None:
    assert dom0.names(message("WATCH", b"/w\0\xff\xfe\0")) == [
        ("WATCH", b"OK\0"),
        ("WATCH_EVENT", b"/w\0\xff\xfe\0"),
    ]
    assert dom0.ask("UNWATCH", b"/w\0\xff\xfe\0") == b"OK\0"


def test_event_longer_than_a_message_is_dropped(dom0: Talk) -> None:
    token = b"t" * 4000
    assert dom0.names(message("WATCH", b"/w\0" + token + b"\0"))[1:] != []
    assert dom0.ask("WRITE", b"/w/" + b"x" * 200 + b"\0") == b"OK\0"
