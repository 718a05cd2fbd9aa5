"""Lesson 3: grants, and who may touch what."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from attrs import define

from xennet.abi.grant_table import (
    GNTMAP_host_map,
    GNTMAP_readonly,
    GNTST_okay,
    GTF_permit_access,
    GTF_reading,
    GTF_readonly,
    GTF_writing,
)
from xennet.adversary import Access
from xennet.course.lesson import Functions, Lesson, MisunderstandingError, Question, boolean
from xennet.course.recordings import acting, begin, interleavings
from xennet.gnttab import GrantTable
from xennet.granter import IN_USE
from xennet.hypervisor import Domain, Machine

SKELETON = '''\
"""Exercise 3: a guest lets its backend use a page, and takes the page back."""

from xennet.engine.kernel import compare_and_swap  # (words, at, old, new): what was there before

# words[2 * gref] is flags | domid << 16, words[2 * gref + 1] the number of the page's frame.
PERMIT, READONLY = 1, 4  # flags of the guest: the entry is valid; the page must not be written
READING, WRITING = 8, 16  # flags of the hypervisor: somebody uses the page now


def grant(words, gref, domid, frame, readonly):
    """Let domain domid use the page, read-only or not. An entry is valid as soon as it says so."""
    raise NotImplementedError


def end(words, gref):
    """Take the page back, unless it is in use. Returns whether it is the guest's alone now.

    The backend may begin to use it at any moment, also between two lines of yours.
    """
    raise NotImplementedError
'''

HINTS = (
    "grant: the word with the flags makes the entry valid. What has to be there before?",
    "grant: the backend only reads what the guest sends; a page that it may not write is safe.",
    "end: while READING or WRITING is set the page is in use. Return False and leave it.",
    "end: compare_and_swap(words, 2 * gref, seen, 0) == seen, with what you have "
    "seen without marks.",
)

_GREF = 8
_GUEST = 1


@define
class _World:
    """A backend, a guest with two pages, and another domain."""

    machine: Machine
    backend: Domain
    guest: Domain
    other: Domain
    grants: GrantTable
    old: int
    frame: int
    #: Of the last use by the backend: its status, and the frame that it got.
    status: int | None = None
    got: int | None = None
    returned: object = None

    @property
    def words(self) -> memoryview:
        return self.grants.words

    def use(self, readonly: bool = True, domain: Domain | None = None) -> bool:
        """Map the guest's page into ``domain`` (the backend). Returns whether Xen allows it."""
        flags = GNTMAP_host_map | (GNTMAP_readonly if readonly else 0)
        user = domain or self.backend
        with acting(user.domid, "maps the page"):
            self.status, _, page = user.map_grant_ref(self.guest.domid, _GREF, flags)
        self.got = None if page is None else page.first
        return self.status == GNTST_okay

    def permit(self, readonly: bool = False) -> None:
        """The entry as it has to be."""
        flags = GTF_permit_access | (GTF_readonly if readonly else 0)
        self.words[2 * _GREF + 1] = self.frame
        self.words[2 * _GREF] = flags | self.backend.domid << 16


def world() -> _World:
    """A small machine, whose backend is in a domain of its own, 2; the entry still has the frame of
    its last use."""
    machine = Machine(nr_frames=1024)
    other, guest, backend = (machine.create_domain() for _ in range(3))
    old, frame = (guest.alloc_pages(1).first for _ in range(2))
    _, (first, *_) = guest.setup_table(guest.domid, 1)
    grants = GrantTable(guest.table_pages(first, 1))
    at = _World(machine, backend, guest, other, grants, old, frame)
    at.words[2 * _GREF + 1] = old
    begin(machine)
    return at


def examine(functions: Functions) -> str:
    """The verdict on a grant() and an end()."""

    def grant(*arguments: Any) -> None:
        with acting(_GUEST, "grant()"):
            functions["grant"](*arguments)

    def end(words: memoryview, gref: int) -> Any:
        with acting(_GUEST, "end()"):
            return functions["end"](words, gref)

    _granted(grant)
    _granted_meanwhile(grant)
    _ended(end)
    _ended_meanwhile(end)
    return (
        "The flags are stored last, so whoever finds the entry valid finds the right "
        "frame; and the "
        "look at the marks and the end of the access are one step, so no use begins in between."
    )


def _granted(grant: Callable[..., Any]) -> None:
    for readonly in (False, True):
        at = world()
        grant(at.words, _GREF, at.backend.domid, at.frame, readonly)
        if at.use(domain=at.other):
            raise MisunderstandingError(
                "one-domain", "Another domain mapped the page as well: a grant is for one domain."
            )
        if not at.use():
            raise MisunderstandingError(
                "not-granted",
                f"The backend, domain {at.backend.domid}, could not map the page: status "
                f"{at.status}. The first word is {at.words[2 * _GREF]:#010x}: flags are its lower "
                "half, the domid its upper one.",
            )
        if at.got != at.frame:
            raise MisunderstandingError(
                "other-frame", f"The backend got frame {at.got}, not {at.frame}."
            )
        if at.use(readonly=False) and readonly:
            raise MisunderstandingError(
                "read-only",
                "The page was granted read-only, and the backend mapped it for writing: it could "
                "change what the guest sends. Grant no more than is needed.",
            )
        if at.status != GNTST_okay and not readonly:
            raise MisunderstandingError(
                "for-writing",
                "The backend has to write into this page, a receive buffer, and it was refused.",
            )


def _granted_meanwhile(grant: Callable[..., Any]) -> None:
    def run(at: _World) -> None:
        grant(at.words, _GREF, at.backend.domid, at.frame, False)

    def act(at: _World, access: Access) -> None:
        at.use()

    for access, at in interleavings(world, run, act):
        if at.got not in (None, at.frame):
            raise MisunderstandingError(
                "flags-last",
                f"The backend used the entry right behind {_name(access)}, and got frame {at.got}: "
                "that of the last use of this entry. The flags make it valid, so they are last.",
            )


def _name(access: Access) -> str:
    return f"your {access.kind} of the word with the {'frame' if access.word % 2 else 'flags'}"


def _ended(end: Callable[..., Any]) -> None:
    for used in (False, True):
        at = world()
        at.permit()
        before = used and at.use(readonly=False)
        ended = boolean("end", end(at.words, _GREF))
        if ended and before:
            raise MisunderstandingError(
                "in-use",
                "The backend has the page mapped, and end() says that it is the guest's alone: "
                "what "
                "the guest writes there next, the backend reads. While a mark is set, return "
                "False.",
            )
        if used and not at.words[2 * _GREF] & IN_USE:
            raise MisunderstandingError(
                "in-use", "The page is in use, and the hypervisor's marks were overwritten."
            )
        if not used and (not ended or at.use()):
            raise MisunderstandingError(
                "not-ended", "Nobody used the page, and end() did not take it back."
            )


def _ended_meanwhile(end: Callable[..., Any]) -> None:
    def run(at: _World) -> None:
        at.returned = end(at.words, _GREF)

    def act(at: _World, access: Access) -> None:
        at.use(readonly=False)

    def scene() -> _World:
        at = world()
        at.permit()
        return at

    for access, at in interleavings(scene, run, act):
        if at.returned and at.status == GNTST_okay:
            raise MisunderstandingError(
                "one-step",
                f"The backend began to use the page right behind {_name(access)}, when end() had "
                "looked and not ended yet. Look and end in one step: compare_and_swap().",
            )


def _ask_map(random: Random) -> Question:
    at = world()
    readonly, wants_write = random.random() < 0.5, random.random() < 0.5
    at.permit(readonly)
    user = random.choice((at.backend, at.backend, at.other))
    entry = at.words[2 * _GREF]
    allowed = at.use(not wants_write, user)
    return Question(
        f"Entry {_GREF} of a guest's table has the first word {entry:#010x} (flags 1 "
        "permit_access, 4 readonly; domid in the upper half), "
        f"the second {at.frame}. "
        f"Domain {user.domid} maps it {'for writing' if wants_write else 'read-only'}. "
        f"Does Xen allow it?",
        "yes" if allowed else "no",
    )


def _ask_end(random: Random) -> Question:
    at = world()
    page = at.guest.alloc_pages(1)
    gref = at.grants.grant_access(at.backend.domid, page.first)
    maps, unmaps = random.randint(0, 4), random.randint(0, 4)
    handles = [
        at.backend.map_grant_ref(at.guest.domid, gref, GNTMAP_host_map)[1] for _ in range(maps)
    ]
    for handle in handles[:unmaps]:
        at.backend.unmap_grant_ref(handle)
    free = at.grants.end_access(gref)
    return Question(
        f"Page {page.first} is granted by reference {gref}. Of the backend's mappings of it {maps} "
        f"were made and {min(maps, unmaps)} undone. Can the guest end the access?",
        "yes" if free else "no",
    )


def _ask_word(random: Random) -> Question:
    at = world()
    domid, readonly = random.randrange(100), random.random() < 0.5
    at.grants.claim(random.randint(1, 9))
    gref = at.grants.grant_access(domid, at.frame, readonly)
    return Question(
        f"A guest grants its frame {at.frame} to domain {domid}"
        f"{', read-only,' if readonly else ''} by reference {gref}. Which words of its table "
        "(version 1) does it store, and what is the one with the flags?",
        f"words {2 * gref + 1} and {2 * gref}; {at.words[2 * gref]:#010x}",
    )


def _ask_marks(random: Random) -> Question:
    at = world()
    at.permit(random.random() < 0.3)
    for _ in range(random.randint(0, 2)):
        at.use(random.random() < 0.5)
    entry = at.words[2 * _GREF]
    marks = (("read", GTF_reading), ("written", GTF_writing))
    uses = " and ".join(word for word, bit in marks if entry & bit)
    return Question(
        f"The first word of a grant entry is {entry:#010x} (flags 1 permit_access, 4 readonly; "
        "the hypervisor's marks 8 reading, 16 writing). Is the page in use, and how?",
        f"in use, may be {uses}" if uses else "not in use",
    )


LESSON = Lesson(
    number=3,
    title="Grants, and who may touch what",
    makers=(_ask_map, _ask_end, _ask_word, _ask_marks),
    skeleton=SKELETON,
    functions=("grant", "end"),
    hints=HINTS,
    examine=examine,
)
