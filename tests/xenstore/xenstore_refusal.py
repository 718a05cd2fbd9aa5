"""``with refused("ENOENT"):`` expects XsError of that name, and that it names the evidence."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from xennet.xenstore import XsError


@contextmanager
def refused(errno: str, path: str | None = None) -> Iterator[None]:
    with pytest.raises(XsError) as caught:
        yield
    assert caught.value.errno == errno, str(caught.value)
    if path is not None:
        assert caught.value.path == path
        assert path in str(caught.value)


def errno_of(request: Callable[[], object]) -> str | None:
    """Makes the request; the errno name of its refusal, or None."""
    try:
        request()
    except XsError as error:
        return error.errno
    return None
