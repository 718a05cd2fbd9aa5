"""QEMU for Xen, downloaded and unpacked: nothing is installed.

Wanted is 10.0 or later, whose network card ``xen-net-device`` is a backend of netfronts (that of
7.2 has nothing behind it). Where apt does not know one, as on Debian 12, its sources are looked up
again with the suite of backports in place of the release's own. A download is kept.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from attrs import frozen

from xennet.user_cache import directory

_PACKAGE = "qemu-system-xen"
_PROGRAM = "usr/libexec/xen-qemu-system-i386"
_OLDEST = (10, 0)
#: What a machine without a screen, a disk and a BIOS does without.
_UNUSED = re.compile(r"(qemu-system-(data|common|x86)|seabios|ipxe-qemu|iso-codes)=")
#: No other user of apt's can write where a download goes; a silent server is given up.
_FETCH = ["-o", "APT::Sandbox::User=root", "-o", "Acquire::http::Timeout=20"]
_ETC = Path("/etc/apt")
_LISTS = Path("/var/lib/apt/lists")


class NoQemuError(Exception):
    """There is no such QEMU here; the message is the reason."""


@frozen
class Qemu:
    """A QEMU: the ``program``, the directories of its libraries, and the ``version`` of its
    package."""

    program: str
    libraries: tuple[str, ...]
    version: str

    def environment(self) -> dict[str, str]:
        """The environment in which it runs."""
        return {**os.environ, "LD_LIBRARY_PATH": ":".join(self.libraries)}

    def command(self, domid: int, mac: str, mine: str, theirs: str) -> list[str]:
        """Its command as the backend of vif 0 of domain ``domid``, which it plugs in; its netdev
        has the socket ``mine`` and sends to ``theirs``."""
        netdev = "dgram,id=n0,local.type=unix,remote.type=unix"
        words = [self.program, "-M", "xenpv", "-xen-domid", str(domid), "-xen-attach"]
        words += ["-nodefaults", "-no-user-config", "-display", "none", "-monitor", "none"]
        words += ["-serial", "none", "-netdev", f"{netdev},local.path={mine},remote.path={theirs}"]
        return [*words, "-device", f"xen-net-device,netdev=n0,mac={mac},idx=0"]


def prepare() -> Qemu:
    """Download QEMU, if need be. Raises NoQemuError."""
    for tool in ("apt-get", "apt-cache", "dpkg"):
        if shutil.which(tool) is None:
            raise NoQemuError(f"no {tool}: this is not a Debian system")
    cache = directory() / "qemu-xen"
    try:
        cache.mkdir(parents=True, exist_ok=True)
        lock = (cache / "lock").open("w")
    except OSError as error:
        raise NoQemuError(f"cache directory {cache}: {error.strerror}") from None
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        root = cache / "root"
        if not (root / _PROGRAM).exists():
            try:
                _download(cache, root)
            except OSError as error:
                raise NoQemuError(f"it cannot be unpacked: {error}") from None
        libraries = [*root.glob("usr/lib/*-linux-gnu"), *root.glob("lib/*-linux-gnu")]
        version = (root / "version").read_text()
        return Qemu(str(root / _PROGRAM), tuple(map(str, libraries)), version)


def _download(cache: Path, root: Path) -> None:
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        options: list[str] = []
        version = _known(options)
        if version is None:
            options = _with_backports(Path(scratch))
            version = _known(options)
        if version is None:
            raise NoQemuError(f"apt knows no {_PACKAGE} from {_OLDEST[0]}.{_OLDEST[1]} on")
        simulate = ["-s", "--no-install-recommends", "-t", "*-backports", "install"]
        said = _run("apt-get", *options, *simulate, f"{_PACKAGE}={version}")
        wanted = re.findall(r"^Inst (\S+) (?:\[\S+\] )?\((\S+) ", said, re.MULTILINE)
        names = [f"{name}={new}" for name, new in wanted]
        names = [name for name in names if not _UNUSED.match(name)]
        _run("apt-get", *options, *_FETCH, "-q", "download", *names, cwd=scratch)
        unpacked = Path(scratch) / "root"
        for package in sorted(Path(scratch).glob("*.deb")):
            _run("dpkg", "-x", str(package), str(unpacked))
        if not (unpacked / _PROGRAM).exists():
            raise NoQemuError(f"{_PACKAGE} {version} holds no {_PROGRAM}")
        (unpacked / "version").write_text(version)
        shutil.rmtree(root, ignore_errors=True)
        unpacked.rename(root)


def _known(options: list[str]) -> str | None:
    """The newest version that apt knows, if it is new enough."""
    # Lines of "name | version | where", the newest first
    for line in _run("apt-cache", *options, "madison", _PACKAGE).splitlines():
        version = line.split("|")[1].strip()
        upstream = version.partition(":")[2] or version
        if tuple(map(int, re.findall(r"\d+", upstream)[:2])) >= _OLDEST:
            return version
    return None


def _with_backports(scratch: Path) -> list[str]:
    """Options with which apt knows the backports of this release too."""
    release = re.search(
        r"^VERSION_CODENAME=(\S+)", Path("/etc/os-release").read_text(), re.MULTILINE
    )
    if release is None:
        raise NoQemuError("a release without a name has no backports")
    lists, parts = scratch / "lists", scratch / "parts"
    (lists / "partial").mkdir(parents=True)
    parts.mkdir()
    for known in _LISTS.iterdir():
        if known.is_file() and known.name != "lock":
            (lists / known.name).symlink_to(known)
    added = False
    for source in [_ETC / "sources.list", *sorted((_ETC / "sources.list.d").glob("*"))]:
        if source.suffix not in (".list", ".sources") or not source.exists():
            continue
        if source.parent != _ETC:
            (parts / source.name).symlink_to(source)
        backports = _backports_of(source.read_text(), release[1])
        if backports and not added:
            added = True
            (parts / f"backports{source.suffix}").write_text(backports)
    if not added:
        raise NoQemuError(f"apt has no source of {release[1]}")
    own = [f"Dir::State::lists={lists}", f"Dir::Cache={scratch}"]
    # Without this each call reads all lists anew, where caches are switched off.
    own += [f"Dir::Cache::{kind}pkgcache={kind}pkgcache.bin" for kind in ("", "src")]
    only = [f"Dir::Etc::sourcelist={next(parts.glob('backports.*'))}", "Dir::Etc::sourceparts=-"]
    only += ["APT::Get::List-Cleanup=0", "Acquire::Languages=none"]
    _run("apt-get", *_options([*own, *only]), *_FETCH, "-q", "update")
    return _options([*own, f"Dir::Etc::sourceparts={parts}"])


def _options(settings: list[str]) -> list[str]:
    return [word for setting in settings for word in ("-o", setting)]


def _backports_of(text: str, release: str) -> str:
    """The first entry of a file of sources that is for a release, for its backports."""
    for stanza in re.split(r"\n[ \t]*\n", text):
        if re.search(rf"^Suites:(.*\s)?{release}(\s|$)", stanza, re.MULTILINE):
            return re.sub("(?m)^Suites:.*$", f"Suites: {release}-backports", stanza) + "\n"
    for line in text.splitlines():
        if re.match(rf"deb\s.*\s{release}\s", line):
            return re.sub(rf"\s{release}\s", f" {release}-backports ", line) + "\n"
    return ""


def _run(*command: str, cwd: str | None = None) -> str:
    """Run a command. Returns its output. Raises NoQemuError with the last line of what it said."""
    env = {**os.environ, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(
            command, cwd=cwd, env=env, capture_output=True, text=True, timeout=180, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoQemuError(f"{command[0]} failed: {error}") from None
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise NoQemuError(f"{command[0]} failed: {said[-1] if said else done.returncode}")
    return done.stdout
