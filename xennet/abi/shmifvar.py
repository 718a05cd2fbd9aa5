"""shmifvar.h: the bus file of NetBSD's shmif and the header before each frame on it.

sys/rump/net/lib/libshmif/shmifvar.h 1.10, with the names there.  Fields have native byte order and
native alignment, so the header of a frame differs: `shmif_pkthdr` is that of x86_64, aarch64 and
armv7, `shmif_pkthdr_i386` that of i386.  Offsets on the bus count from the first data byte of the
file and reach to BUSMEM_DATASIZE, which means 0 in `shm_first`.
"""

from __future__ import annotations

from construct import Int32ul, Int64ul, Padding, Struct

from xennet.abi.codec import derive

SHMIF_MAGIC = 0xCA11D054
SHMIF_VERSION = 3
#: Bytes of a bus file.
BUSMEM_SIZE = 1 << 20

LOCK_UNLOCKED = 0
LOCK_LOCKED = 1
#: Tries after which a process that wants the lock sleeps for a millisecond.
LOCK_COOLDOWN = 1001

shmif_mem = "shmif_mem" / Struct(
    "shm_magic" / Int32ul,
    "shm_version" / Int32ul,
    "shm_gen" / Int64ul,
    "shm_first" / Int32ul,
    "shm_last" / Int32ul,
    "shm_lock" / Int32ul,
    "shm_spare" / Int32ul,
)

shmif_pkthdr = "shmif_pkthdr" / Struct(
    "sp_len" / Int32ul,
    "sp_sec" / Int32ul,
    "sp_usec" / Int32ul,
    Padding(4),
    "sp_sender" / Int64ul,
)

shmif_pkthdr_i386 = "shmif_pkthdr_i386" / Struct(
    "sp_len" / Int32ul,
    "sp_sec" / Int32ul,
    "sp_usec" / Int32ul,
    "sp_sender" / Int64ul,
)

SHMIF_MEM = derive(shmif_mem)
PKTHDR = derive(shmif_pkthdr)
PKTHDR_I386 = derive(shmif_pkthdr_i386)

#: File offset of the first data byte, and of the four bytes whose writing wakes all readers.
IFMEM_DATA = SHMIF_MEM.size
IFMEM_WAKEUP = SHMIF_MEM.offsets["shm_version"]
#: Data bytes of a bus.
BUSMEM_DATASIZE = BUSMEM_SIZE - IFMEM_DATA

# The same in 32-bit words, which kernels load and store.
MEM_W_magic = SHMIF_MEM.offsets["shm_magic"] // 4
MEM_W_gen = SHMIF_MEM.offsets["shm_gen"] // 4
MEM_W_first = SHMIF_MEM.offsets["shm_first"] // 4
MEM_W_last = SHMIF_MEM.offsets["shm_last"] // 4
MEM_W_lock = SHMIF_MEM.offsets["shm_lock"] // 4
PKT_W_len = PKTHDR.offsets["sp_len"] // 4
PKT_W_sec = PKTHDR.offsets["sp_sec"] // 4
PKT_W_usec = PKTHDR.offsets["sp_usec"] // 4
if SHMIF_MEM.offsets["shm_spare"] != SHMIF_MEM.offsets["shm_lock"] + 4:
    raise AssertionError("the spare word is not the upper half of a 64-bit word with the lock")
