"""The real C xenstored (of Debian's xen-utils) started without Xen, to compare with and to measure.

Nothing is installed: the packages are downloaded into a cache directory and unpacked there. A
hypervisor's answers to the daemon come from xenshim.c, compiled when it is needed, and from
:class:`RealXenstored`, which plays the hypervisor: domains, their ring pages, event channels.

Which releases are available depends on apt: 4.17 on Debian 12, 4.20 on Debian 13, both where apt
knows both (APT_CONFIG may name a configuration of its own for it). A download is kept.

``python -m xennet.bench.real_xenstored [4.17|4.20] [ARGUMENTS]`` starts one to try
(XENSTORED_PATH=... xenstore-ls).
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

from attrs import frozen


@frozen
class Release:
    """A xenstored that Debian ships.

    ``version``: of Xen. ``debian``: the Debian that has it. ``needed``: packages beside those of
    Xen. ``macros``: for compiling the shim.
    """

    version: str
    debian: str
    needed: tuple[str, ...] = ()
    macros: tuple[str, ...] = ()

    @property
    def packages(self) -> tuple[str, ...]:
        """The packages of one version: the daemon, its libraries, and the headers that the shim
        needs."""
        return (
            f"xen-utils-{self.version}",
            f"libxenmisc{self.version}",
            "libxen-dev",
            "libxencall1",
            "libxendevicemodel1",
            "libxenevtchn1",
            "libxenforeignmemory1",
            "libxengnttab1",
            "libxentoolcore1",
            "libxentoollog1",
        )


RELEASES = {
    release.version: release
    for release in (
        Release("4.17", "Debian 12"),
        # With its own C library it runs on older systems too.
        Release("4.20", "Debian 13", needed=("libc6",), macros=("GETINFO_SINGLE",)),
    )
}

CACHE_VARIABLE = "XENNET_XENSTORED_CACHE"
PAGE_SIZE = 4096
DOMAINS = 1024
"""Domain ids that can be created: 0 to 1023."""

EXISTS, SHUT_DOWN, CRASHED, DYING = 1, 2, 4, 8
BOUND, UNBOUND, NOTIFIED, HANDLED = 1, 2, 3, 4
VIRQ_PORT = 1

_REPORT = struct.Struct("<4I")
_TIMEOUT = 60.0


class CannotStartError(Exception):
    """The real xenstored cannot run here; the message is the reason for a skipped test."""


@frozen
class Prepared:
    """The daemon, the shim, and the directory of its libraries.

    ``loader`` is the program loader of its own C library, None for the system's.
    """

    daemon: Path
    shim: Path
    libraries: Path
    loader: Path | None

    def command(self) -> list[str]:
        """The command that starts the daemon with its own libraries and the shim."""
        if self.loader is None:
            return [str(self.daemon)]
        options = ["--library-path", str(self.libraries), "--preload", str(self.shim)]
        return [str(self.loader), *options, str(self.daemon)]

    def environment(self) -> dict[str, str]:
        """Environment variables of the command, beside those of the shim."""
        if self.loader is not None:
            return {}
        return {"LD_PRELOAD": str(self.shim), "LD_LIBRARY_PATH": str(self.libraries)}


def cache_directory(version: str) -> Path:
    """The directory for downloads of a release: below $XENNET_XENSTORED_CACHE, or below the user's
    cache directory."""
    given = os.environ.get(CACHE_VARIABLE)
    base = Path(given or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / ("" if given else "xennet") / f"xenstored-{version}"


def available() -> str:
    """The first of RELEASES that can be had. Raises CannotStartError with the reasons for all of
    them."""
    reasons = []
    for version in RELEASES:
        try:
            prepare(version)
        except CannotStartError as reason:
            reasons.append(f"{version}: {reason}")
        else:
            return version
    raise CannotStartError("; ".join(reasons))


def prepare(version: str, cache: Path | None = None) -> Prepared:
    """Download a release of the daemon and build its shim, if need be.

    Raises CannotStartError with the reason.
    """
    release = RELEASES[version]
    cache = cache or cache_directory(version)
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
        daemon = root / f"usr/lib/xen-{version}/bin/xenstored"
        if not daemon.exists():
            _download(release, cache, root)
        if not daemon.exists():
            raise CannotStartError(f"xen-utils-{version} holds no {daemon.relative_to(root)}")
        loader = next(root.glob("usr/lib/*/ld-linux*.so.*"), None)
        return Prepared(daemon, _compile(release, cache, root), _library_directory(root), loader)


def _download(release: Release, cache: Path, root: Path) -> None:
    version = _newest(release.packages[0], release.debian)
    wanted = [f"{package}={version}" for package in release.packages]
    wanted += [f"{package}={_newest(package, release.debian)}" for package in release.needed]
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        _run(
            ["apt-get", "-q", "-o", "Acquire::http::Timeout=20", "download", *wanted],
            f"apt-get download (no network, or package lists of another day than {version})",
            cwd=scratch,
        )
        unpacked = Path(scratch) / "root"
        for package in sorted(Path(scratch).glob("*.deb")):
            _run(["dpkg", "-x", str(package), str(unpacked)], f"unpacking {package.name}")
        shutil.rmtree(root, ignore_errors=True)
        unpacked.rename(root)


def _newest(package: str, debian: str) -> str:
    """The newest version of a package that apt knows."""
    # Lines of "name | version | where", the newest first
    known = _run(["apt-cache", "madison", package], "apt-cache madison").split("|")
    if len(known) < 2:
        raise CannotStartError(
            f"apt knows no {package} here (it is in {debian}; or there are no package lists)"
        )
    return known[1].strip()


def _compile(release: Release, cache: Path, root: Path) -> Path:
    shim = cache / "xenshim.so"
    with as_file(files("xennet.bench") / "xenshim.c") as source:
        if not shim.exists() or shim.stat().st_mtime < source.stat().st_mtime:
            made = cache / f"xenshim.{os.getpid()}.so"
            flags = ["-shared", "-fPIC", "-O2", f"-I{root / 'usr/include'}"]
            flags += [f"-D{macro}" for macro in release.macros]
            _run(["gcc", *flags, str(source), "-o", str(made), "-ldl"], "compiling the shim")
            made.rename(shim)
    return shim


def _library_directory(root: Path) -> Path:
    found = next(root.glob("usr/lib/*/libxenevtchn.so.1"), None)
    if found is None:
        raise CannotStartError("the downloaded packages hold no libxenevtchn.so.1")
    return found.parent


def _run(command: list[str], what: str, cwd: str | None = None) -> str:
    """Run a command. Returns its output."""
    try:
        return subprocess.run(
            command, check=True, cwd=cwd, capture_output=True, text=True, timeout=180
        ).stdout
    except subprocess.CalledProcessError as error:
        words = (error.stderr or error.stdout).strip().splitlines()
        raise CannotStartError(
            f"{what} failed: {words[-1] if words else error.returncode}"
        ) from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CannotStartError(f"{what} failed: {error}") from None


class RealXenstored:
    """A running daemon in a private directory, and the hypervisor that it sees.

    ``version`` is one of RELEASES, by default the first that can be had. It is a context manager.
    ``socket_path`` is the daemon's socket, ``pid`` its process. Raises CannotStartError if the
    daemon cannot be had.
    """

    def __init__(
        self, *arguments: str, version: str | None = None, cache: Path | None = None
    ) -> None:
        self.version = version or available()
        prepared = prepare(self.version, cache)
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
            **prepared.environment(),
            "XENSTORED_RUNDIR": str(self.directory),
            "XENSTORED_ROOTDIR": str(self.directory),
        }
        self._log = (self.directory / "output").open("wb")
        self._process = subprocess.Popen(
            [*prepared.command(), "-N", *arguments],
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
        """Whether the daemon runs; False if it has crashed."""
        return self._process.poll() is None

    # -- its hypervisor ------------------------------------------------------------------------

    def create_domain(self, domid: int) -> None:
        """Add a domain to the hypervisor."""
        self._rings[domid * PAGE_SIZE : (domid + 1) * PAGE_SIZE] = bytes(PAGE_SIZE)
        self._states[domid] = EXISTS

    def set_domain(self, domid: int, state: int) -> None:
        """Change a domain's state bits (0: it is gone) and raise VIRQ_DOM_EXC.

        Returns when the daemon has looked.
        """
        self._states[domid] = state
        self.fire(VIRQ_PORT, wait=True)

    def port_of(self, domid: int) -> int:
        """The daemon's local event channel port of an introduced domain. Raises KeyError if there
        is none."""
        self._listen(0)
        return self._ports[domid]

    def ring_page(self, domid: int) -> memoryview:
        """The domain's XenStore ring page, shared with the daemon."""
        return memoryview(self._rings)[domid * PAGE_SIZE : (domid + 1) * PAGE_SIZE]

    def fire(self, port: int, wait: bool = False) -> None:
        """Raise the daemon's local port ``port``; with ``wait`` return when the daemon has handled
        it."""
        self._listen(0)
        before = self._handled.get(port, 0)
        self._events.send(struct.pack("<I", port))
        deadline = time.monotonic() + _TIMEOUT
        while wait and self._handled.get(port, 0) == before:
            self._listen(max(0.001, deadline - time.monotonic()))

    def listen(self, seconds: float) -> None:
        """Wait until the daemon has something to report, a notification for instance.

        Raises TimeoutError after ``seconds`` (60 at most), RuntimeError if the daemon has died.
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
        """How the daemon ended, if it has, and the last line that it printed."""
        self._log.flush()
        lines = (self.directory / "output").read_text(errors="replace").strip().splitlines()
        return f"exit code {self._process.poll()}, last output: {lines[-1] if lines else 'none'}"


def main() -> None:
    """Start a daemon, print where its socket is, and wait for the end of standard input or ^C."""
    arguments = sys.argv[1:]
    version = arguments.pop(0) if arguments[:1] and arguments[0] in RELEASES else None
    try:
        with RealXenstored(*arguments, version=version) as daemon:
            print(f"XENSTORED_PATH={daemon.socket_path}  (xenstored {daemon.version})", flush=True)
            with suppress(KeyboardInterrupt):
                sys.stdin.read()
    except CannotStartError as reason:
        sys.exit(f"cannot start the real xenstored: {reason}")


if __name__ == "__main__":
    main()
