"""The real C xenstored (Debian's xen-utils-4.17) started without Xen, to compare with and measure.

Nothing is installed: the packages are downloaded into a cache directory and unpacked there. What
the daemon would ask a hypervisor is answered by xenshim.c, compiled on the spot, and by
:class:`RealXenstored`, which is its hypervisor: domains, their ring pages, event channels.

``python -m xennet.bench.real_xenstored`` starts one to play with (XENSTORED_PATH=... xenstore-ls).
"""

from __future__ import annotations

import fcntl
import mmap
import os
import select
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from importlib.resources import as_file, files
from pathlib import Path
from types import TracebackType

PACKAGES = (
    "xen-utils-4.17",
    "libxen-dev",
    "libxencall1",
    "libxendevicemodel1",
    "libxenevtchn1",
    "libxenforeignmemory1",
    "libxengnttab1",
    "libxenmisc4.17",
    "libxentoolcore1",
    "libxentoollog1",
)
"""The daemon, the libraries it is linked with, and the headers that the shim needs."""

CACHE_VARIABLE = "XENNET_XENSTORED_CACHE"
PAGE_SIZE = 4096
DOMAINS = 1024
"""Domain ids that can be created: 0 to 1023."""

EXISTS, SHUT_DOWN, CRASHED, DYING = 1, 2, 4, 8
BOUND, UNBOUND, NOTIFIED, HANDLED = 1, 2, 3, 4
VIRQ_PORT = 1

_REPORT = struct.Struct("<4I")
_TIMEOUT = 10.0


class CannotStartError(Exception):
    """Why the real xenstored cannot run here, in words for a skipped test."""


def cache_directory() -> Path:
    """Where downloads are kept: $XENNET_XENSTORED_CACHE, or below the user's cache directory."""
    given = os.environ.get(CACHE_VARIABLE)
    if given:
        return Path(given)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "xennet" / "xenstored-4.17"


def prepare(cache: Path | None = None) -> tuple[Path, Path, Path]:
    """The daemon, the shim and the directory of its libraries, fetched and built if need be.

    Raises CannotStartError with the reason.
    """
    cache = cache or cache_directory()
    for tool, why in (
        ("apt-get", "not a Debian system"),
        ("dpkg", "not a Debian system"),
        ("gcc", "to compile the shim"),
    ):
        if shutil.which(tool) is None:
            raise CannotStartError(f"no {tool} ({why})")
    try:
        cache.mkdir(parents=True, exist_ok=True)
        lock = (cache / "lock").open("w")
    except OSError as error:
        raise CannotStartError(f"cache directory {cache}: {error.strerror}") from None
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        root = cache / "root"
        daemon = root / "usr/lib/xen-4.17/bin/xenstored"
        if not daemon.exists():
            _download(cache, root)
        if not daemon.exists():
            raise CannotStartError(f"xen-utils-4.17 holds no {daemon.relative_to(root)}")
        return daemon, _compile(cache, root), _library_directory(root)


def _download(cache: Path, root: Path) -> None:
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        _run(
            ["apt-get", "-q", "-o", "Acquire::http::Timeout=20", "download", *PACKAGES],
            "apt-get download (no network, no package lists, or not Debian 12)",
            cwd=scratch,
        )
        unpacked = Path(scratch) / "root"
        for package in sorted(Path(scratch).glob("*.deb")):
            _run(["dpkg", "-x", str(package), str(unpacked)], f"unpacking {package.name}")
        shutil.rmtree(root, ignore_errors=True)
        unpacked.rename(root)


def _compile(cache: Path, root: Path) -> Path:
    shim = cache / "xenshim.so"
    with as_file(files("xennet.bench") / "xenshim.c") as source:
        if not shim.exists() or shim.stat().st_mtime < source.stat().st_mtime:
            made = cache / f"xenshim.{os.getpid()}.so"
            flags = ["-shared", "-fPIC", "-O2", f"-I{root / 'usr/include'}"]
            _run(["gcc", *flags, str(source), "-o", str(made), "-ldl"], "compiling the shim")
            made.rename(shim)
    return shim


def _library_directory(root: Path) -> Path:
    found = next(root.glob("usr/lib/*/libxenevtchn.so.1"), None)
    if found is None:
        raise CannotStartError("the downloaded packages hold no libxenevtchn.so.1")
    return found.parent


def _run(command: list[str], what: str, cwd: str | None = None) -> None:
    try:
        subprocess.run(command, check=True, cwd=cwd, capture_output=True, text=True, timeout=180)
    except subprocess.CalledProcessError as error:
        words = (error.stderr or error.stdout).strip().splitlines()
        raise CannotStartError(
            f"{what} failed: {words[-1] if words else error.returncode}"
        ) from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CannotStartError(f"{what} failed: {error}") from None


class RealXenstored:
    """A running daemon in a private directory, and the hypervisor it believes to run on.

    Use it as a context manager. ``socket_path`` is its socket, ``pid`` its process. Raises
    CannotStartError where it cannot be had.
    """

    def __init__(self, *arguments: str, cache: Path | None = None) -> None:
        daemon, shim, libraries = prepare(cache)
        self._directory = tempfile.TemporaryDirectory(prefix="xenstored-")
        self.directory = Path(self._directory.name)
        self.socket_path = str(self.directory / "socket")
        self._ports: dict[int, int] = {}
        self._handled: dict[int, int] = {}
        states = os.memfd_create("domains")
        rings = os.memfd_create("rings")
        os.ftruncate(states, DOMAINS)
        os.ftruncate(rings, DOMAINS * PAGE_SIZE)
        self._states = mmap.mmap(states, DOMAINS)
        self._rings = mmap.mmap(rings, DOMAINS * PAGE_SIZE)
        self._states[0] = EXISTS
        self._events, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._events.setblocking(False)
        inherited = {"DOMAINS": states, "RINGS": rings, "EVENTS": theirs.fileno()}
        environment = {
            **os.environ,
            **{f"XENSHIM_{name}": str(fd) for name, fd in inherited.items()},
            "LD_PRELOAD": str(shim),
            "LD_LIBRARY_PATH": str(libraries),
            "XENSTORED_RUNDIR": str(self.directory),
            "XENSTORED_ROOTDIR": str(self.directory),
        }
        self._log = (self.directory / "output").open("wb")
        self._process = subprocess.Popen(
            [str(daemon), "-N", *arguments],
            env=environment,
            pass_fds=tuple(inherited.values()),
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
        )
        theirs.close()
        os.close(states)
        os.close(rings)
        self.pid = self._process.pid
        self._wait_for_socket()

    def __enter__(self) -> RealXenstored:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End the daemon and remove its directory."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._log.close()
        self._events.close()
        self._states.close()
        self._rings.close()
        self._directory.cleanup()

    @property
    def running(self) -> bool:
        """False if the daemon has crashed."""
        return self._process.poll() is None

    # -- its hypervisor ------------------------------------------------------------------------

    def create_domain(self, domid: int) -> None:
        """The hypervisor has a new domain."""
        self._rings[domid * PAGE_SIZE : (domid + 1) * PAGE_SIZE] = bytes(PAGE_SIZE)
        self._states[domid] = EXISTS

    def set_domain(self, domid: int, state: int) -> None:
        """Change a domain's state bits (0: it is gone) and raise VIRQ_DOM_EXC; returns when the
        daemon has looked."""
        self._states[domid] = state
        self.fire(VIRQ_PORT, wait=True)

    def port_of(self, domid: int) -> int:
        """The daemon's local event channel port of an introduced domain; KeyError if none."""
        self._listen(0)
        return self._ports[domid]

    def ring_page(self, domid: int) -> memoryview:
        """The domain's XenStore ring page, shared with the daemon."""
        return memoryview(self._rings)[domid * PAGE_SIZE : (domid + 1) * PAGE_SIZE]

    def fire(self, port: int, wait: bool = False) -> None:
        """Raise the local port ``port`` of the daemon, and ``wait`` until it has handled that."""
        self._listen(0)
        before = self._handled.get(port, 0)
        self._events.send(struct.pack("<I", port))
        deadline = time.monotonic() + _TIMEOUT
        while wait and self._handled.get(port, 0) == before:
            self._listen(deadline - time.monotonic())

    def listen(self, seconds: float) -> None:
        """Wait until the daemon has something to report, a notification for instance.

        Raises TimeoutError after ``seconds`` (10 at most), RuntimeError if the daemon has died.
        """
        self._listen(min(seconds, _TIMEOUT))

    def _listen(self, seconds: float) -> None:
        if seconds > 0 and not select.select([self._events], [], [], seconds)[0]:
            raise TimeoutError(f"xenstored {self.pid} reported nothing for {seconds:.1f} s")
        with suppress(BlockingIOError):
            while report := self._events.recv(_REPORT.size):
                code, port, domid, _ = _REPORT.unpack(report)
                if code == BOUND:
                    self._ports[domid] = port
                elif code == UNBOUND:
                    self._ports = {d: p for d, p in self._ports.items() if p != port}
                elif code == HANDLED:
                    self._handled[port] = self._handled.get(port, 0) + 1
            raise RuntimeError(f"xenstored has ended: {self.last_words()}")

    def _wait_for_socket(self) -> None:
        deadline = time.monotonic() + _TIMEOUT
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                words = self.last_words()
                self.stop()
                raise CannotStartError(f"xenstored ended at once: {words}")
            with socket.socket(socket.AF_UNIX) as probe, suppress(OSError):
                probe.connect(self.socket_path)
                return
            time.sleep(0.002)
        self.stop()
        raise CannotStartError(f"xenstored opened no socket within {_TIMEOUT:.0f} s")

    def last_words(self) -> str:
        """How the daemon ended, as far as it has, and the last line that it printed."""
        self._log.flush()
        lines = (self.directory / "output").read_text(errors="replace").strip().splitlines()
        return f"exit code {self._process.poll()}, last output: {lines[-1] if lines else 'none'}"


def main() -> None:
    """Start a daemon, say where its socket is, and wait for the end of standard input or ^C."""
    try:
        with RealXenstored(*sys.argv[1:]) as daemon:
            print(f"XENSTORED_PATH={daemon.socket_path}", flush=True)
            with suppress(KeyboardInterrupt):
                sys.stdin.read()
    except CannotStartError as reason:
        sys.exit(f"cannot start the real xenstored: {reason}")


if __name__ == "__main__":
    main()
