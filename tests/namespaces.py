"""Network namespaces for tests, and why there are none."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path

from xennet.tap.namespace import within

_numbers = count()
#: asm-generic/socket.h; the module socket does not have it.
_SO_RCVBUFFORCE = 33


def why_none(*programs: str) -> str:
    """Why there can be no TAP interface in a namespace of its own, or no such program; "" if there
    can."""
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        return "/dev/net/tun cannot be opened here"
    for program in ("ip", *programs):
        if shutil.which(program) is None:
            return f"there is no {program}"
    name = f"xennet-why-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
    if made.returncode:
        return f"no network namespaces here: {made.stderr.strip()}"
    subprocess.run(["ip", "netns", "del", name], check=True)
    return ""


@contextmanager
def namespace(ipv6: bool = False) -> Iterator[str]:
    """A network namespace; without IPv6 the kernel sends no frames by itself."""
    name = f"xennet-{os.getpid()}-{next(_numbers)}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        if not ipv6:
            for which in ("all", "default"):
                path = Path(f"/proc/sys/net/ipv6/conf/{which}/disable_ipv6")
                within(name, partial(path.write_text, "1"))
        yield name
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


def ip(name: str, *words: str) -> str:
    """What `ip -n NAME WORDS` prints."""
    done = subprocess.run(["ip", "-n", name, *words], capture_output=True, text=True, check=True)
    return done.stdout


def wire(name: str, interface: str) -> socket.socket:
    """A socket that sends and takes whole frames at an interface of the namespace."""

    def make() -> socket.socket:
        made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        made.bind((interface, 3))
        made.settimeout(60)
        made.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 1 << 22)
        return made

    return within(name, make)
