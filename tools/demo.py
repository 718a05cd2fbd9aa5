"""The demo: a real capture crosses an emulated Xen vif to domain 0 and comes back.

Runs two commands that you can run yourself, shows them, and compares what was recorded with what
was sent by reading both captures again. A third one records a small run as a page to step through.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import dpkt

from xennet.cli import main as xennet
from xennet.trace.stream import read

ROOT = Path(__file__).resolve().parent.parent
CAPTURE = Path("xennet/data/guest-and-host-tcp.pcap")
OUT = Path("demo-out")


def run(*words: str) -> None:
    print(f"\n$ xennet {' '.join(words)}\n", flush=True)
    status = xennet(list(words))
    if status:
        sys.exit(status)


def frames(path: Path) -> list[bytes]:
    with path.open("rb") as file:
        return [frame for _, frame in dpkt.pcap.Reader(file)]


def compare(name: str) -> None:
    sent, got = frames(CAPTURE), frames(OUT / name)
    if sent != got:
        sys.exit(f"{OUT / name} does not hold the frames of {CAPTURE}")
    size = sum(map(len, got))
    print(f"{OUT / name}: {len(got)} frames, {size:,} bytes, equal to {CAPTURE}", flush=True)


def avoided(stream: Path) -> int:
    """The number of the first notification that was not sent."""
    events = read(stream)[1]
    return next(e["n"] for e in events if e["kind"] == "notify" and not e["sent"])


def lead_on() -> None:
    """Say where "Notifications" is explained, on the page of a recorded run."""
    stream, page = OUT / "run.jsonl", OUT / "run.html"
    run("trace", "run", "--quiet", "--guest", "gen:100x3", "--host", "echo:", "-o", str(stream))
    run("trace", "show", str(stream), "-o", str(page))
    print("Hundreds of frames, and a handful of notifications. Why were the others avoided?")
    print(f"  {page.resolve().as_uri()}#step={avoided(stream)}")
    print("                   opens at one that was; w asks why, ? has the other keys")
    print("  docs/ring.md     explains the numbers in ten minutes")
    print("  . .venv/bin/activate && xennet course")
    print("                   lessons with exercises; the second one is about this", flush=True)


def main() -> None:
    os.chdir(ROOT)
    OUT.mkdir(exist_ok=True)
    run("run", "--guest", f"pcap:{CAPTURE}+record:{OUT}/back.pcap", "--host", "echo:")
    run("run", "--quiet", "--guest", f"record:{OUT}/received.pcap", "--host", f"pcap:{CAPTURE}")
    print()
    compare("back.pcap")
    compare("received.pcap")
    lead_on()


if __name__ == "__main__":
    main()
