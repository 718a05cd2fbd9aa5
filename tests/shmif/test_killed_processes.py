"""Five processes on one bus, four of which write and read at full speed, and SIGKILL at any moment.

Every reader that survives gets each frame, whole and in order, or says how often it fell behind;
nobody hangs. XENNET_SHMIF_SECONDS says for how long (a second without it).
"""

from __future__ import annotations

import fcntl
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from zlib import crc32

import pytest

from xennet.frames import FrameBatch
from xennet.shmif.bus_port import ShmifPort

SECONDS = float(os.environ.get("XENNET_SHMIF_SECONDS", "1"))

#: Writes frames of random lengths (number of the process, serial, sum) as fast as it can, and reads
#: what others wrote; on a line of input it says what it found, and ends.
TALKS = """
import json, os, random, select, signal, sys
from zlib import crc32
from xennet.frames import FrameBatch
from xennet.shmif.bus_port import ShmifPort
path, number = sys.argv[1], int(sys.argv[2])
port = ShmifPort(path)
out, batch = (FrameBatch(memoryview(bytearray(1 << 20))) for _ in range(2))
rng, serial, seen, torn, missing, read = random.Random(number), 0, {}, 0, 0, 0
if len(sys.argv) > 3:
    # Dies in the middle of writing: shm_last leads to no frame, as upstream's is for a moment.
    put = port._bus._put
    def dies(*arguments):
        put(*arguments)
        if rng.random() < 0.02:
            words = port._bus.memory.mem32
            words[5] = (words[5] + 4 * rng.randrange(300)) % 1048544
            os.kill(os.getpid(), signal.SIGKILL)
    port._bus._put = dies
print("begins", flush=True)

def look():
    global torn, missing, read
    batch.clear()
    before = port.overruns
    port.pull(batch)
    for frame in batch:
        data = bytes(frame)
        sender, count = (int.from_bytes(data[at : at + 4], "big") for at in (14, 18))
        torn += crc32(data[:-4]) != int.from_bytes(data[-4:], "big")
        last, when = seen.get(sender, (count - 1, 0))
        missing += count <= last or (count != last + 1 and when == port.overruns)
        seen[sender] = count, before  # it may have fallen behind after this one
        read += 1

while not select.select([sys.stdin], [], [], 0)[0]:
    out.clear()
    for _ in range(rng.randrange(1, 40)):
        head = b"\\xff" * 6 + bytes(6) + b"\\x88\\xb5"
        head += number.to_bytes(4, "big") + serial.to_bytes(4, "big")
        body = head + rng.randbytes(1) * rng.randrange(0, 1480)
        out.append(body + crc32(body).to_bytes(4, "big"))
        serial += 1
    port.push(out)
    look()
dead = sum("died while it held" in fault for fault in port.counters.faults)
print(json.dumps([read, torn, missing, len(seen), serial, dead]))
"""


def start(path: str, number: int, engine: str, *dies: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", TALKS, path, str(number), *dies],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"XENNET_ENGINE": engine},
    )


def start_one_to_be_killed(path: str, number: int, engine: str) -> subprocess.Popen[str]:
    """Every second one dies in Python between two kernels, whose engine does not matter then."""
    return start(path, number, engine) if number % 2 else start(path, number, "plain", "dies")


@pytest.mark.skipif(not hasattr(fcntl, "F_OFD_SETLK"), reason="no open file description locks")
def test_processes_that_are_killed_leave_a_bus_that_works(tmp_path: Path, engine: str) -> None:
    path, rng, number = str(tmp_path / "bus"), random.Random(1), 4
    here = ShmifPort(path)
    batch = FrameBatch(memoryview(bytearray(1 << 20)))
    # Four write and read; the engines do not matter to each other.
    staying = [start(path, place, one) for place, one in enumerate((engine, engine, "plain"))]
    killed = start_one_to_be_killed(path, number, engine)
    kills, seen, read = 0, dict[int, tuple[int, int]](), Counter[int]()
    try:
        for process in (*staying, killed):
            assert process.stdout is not None
            assert process.stdout.readline() == "begins\n"
        next_kill = time.monotonic()
        until = time.monotonic() + SECONDS
        # On a busy machine, until those that stay have all done something.
        while time.monotonic() < until or kills < 3 or any(read[n] <= 200 for n in range(3)):
            batch.clear()
            before = here.overruns
            here.pull(batch)
            for frame in batch:
                data = bytes(frame)
                sender, count = (int.from_bytes(data[at : at + 4], "big") for at in (14, 18))
                assert crc32(data[:-4]) == int.from_bytes(data[-4:], "big"), "torn"
                last, when = seen.get(sender, (count - 1, 0))
                assert count > last, "out of order"
                assert count == last + 1 or when < here.overruns, "missing"
                seen[sender] = count, before
                read[sender] += 1
            if time.monotonic() > next_kill:
                if number % 2:
                    killed.kill()
                assert killed.wait(timeout=60) == -signal.SIGKILL
                killed.communicate()
                number, kills = number + 1, kills + 1
                killed = start_one_to_be_killed(path, number, engine)
                assert killed.stdout is not None
                assert killed.stdout.readline() == "begins\n"
                next_kill = time.monotonic() + rng.random() / 4
        found = []
        for process in staying:
            out, _ = process.communicate("\n", timeout=60)
            found.append(json.loads(out))
    finally:
        for process in (*staying, killed):
            process.kill()
            process.communicate()
        here.close()
    dead = sum("died while it held" in fault for fault in here.counters.faults)
    for got, torn, missing, senders, sent, told in found:
        dead += told
        assert (torn, missing) == (0, 0)
        assert got > 100
        assert sent > 100
        assert senders >= 3
    assert dead
    print(f"{kills} kills, {dead} of them with the lock; {here.overruns} overruns here; {found}")
