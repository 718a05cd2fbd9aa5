"""The demo: a real capture crosses an emulated Xen vif to domain 0 and comes back.

Runs two commands that you can run yourself, shows them, and compares what was recorded with what
was sent by reading both captures again.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import dpkt

from xennet.cli import main as xennet

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


def main() -> None:
    os.chdir(ROOT)
    OUT.mkdir(exist_ok=True)
    run("run", "--guest", f"pcap:{CAPTURE}+record:{OUT}/back.pcap", "--host", "echo:")
    run("run", "--quiet", "--guest", f"record:{OUT}/received.pcap", "--host", f"pcap:{CAPTURE}")
    print()
    compare("back.pcap")
    compare("received.pcap")


if __name__ == "__main__":
    main()
