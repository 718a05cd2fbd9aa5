"""Grant tables once more, in plain Python: dictionaries, names, no words and no kernels.

What the state machine of test_model.py compares the real thing with, after each step.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from gnttab_world import READ, WRITE, Own, Ref

from xennet.abi.grant_table import (
    GRANT_ENTRY_V1,
    GRANT_ENTRY_V2_FULL,
    GRANT_ENTRY_V2_SUB,
    GRANT_ENTRY_V2_TRANSITIVE,
    GTF_accept_transfer,
    GTF_permit_access,
    GTF_readonly,
    GTF_sub_page,
    GTF_transfer_committed,
    GTF_transfer_completed,
    GTF_transitive,
    GTF_type_mask,
)
from xennet.abi.xen import DOMID_SELF, PAGE_SIZE

Key = tuple[int, int]


@dataclass(frozen=True)
class Use:
    """Somebody uses a reference: bytes start .. start + length - 1 of a frame."""

    caller: int
    write: bool
    frame: int
    start: int = 0
    length: int = PAGE_SIZE
    part: bool = False
    behind: Key | None = None


class GrantModel:
    """``entries``: the bytes of each entry; ``marks``: status words of version 2 tables."""

    def __init__(self, versions: tuple[int, ...], table_length: dict[int, int]) -> None:
        self.versions = versions
        self.table_length = table_length
        self.entries: dict[Key, bytearray] = {}
        self.marks: dict[Key, int] = {}
        self.uses: dict[Key, list[Use]] = {}
        self.owner: dict[int, int] = {}
        self.content: dict[int, bytearray] = {}
        self.handles: dict[tuple[int, int], tuple[Key, Use]] = {}

    # Reading an entry

    def header(self, key: Key) -> tuple[int, int]:
        """(flags, domid)."""
        raw = self.entry(key)
        return int.from_bytes(raw[0:2], "little"), int.from_bytes(raw[2:4], "little")

    def entry(self, key: Key) -> bytearray:
        return self.entries.setdefault(key, bytearray(8 * self.versions[key[0]]))

    def frame(self, key: Key) -> int:
        codec = GRANT_ENTRY_V1 if self.versions[key[0]] == 1 else GRANT_ENTRY_V2_FULL
        frame: int = codec.unpack_from(self.entry(key))[-1]
        return frame

    # Marks

    def change_marks(self, key: Key, add: int = 0, remove: int = 0) -> None:
        if self.versions[key[0]] == 2:
            self.marks[key] = (self.marks.get(key, 0) | add) & ~remove
        else:
            flags, _ = self.header(key)
            self.entry(key)[0:2] = ((flags | add) & ~remove).to_bytes(2, "little")

    def unmark(self, key: Key, write: bool) -> None:
        """After a use has ended, or never began."""
        left = self.uses.get(key, [])
        remove = 0 if left else READ
        if write and not any(use.write for use in left):
            remove |= WRITE & ~READ
        self.change_marks(key, remove=remove)

    # Uses

    def begin(
        self, key: Key, caller: int, write: bool, mapping: bool, first_link: bool = True
    ) -> str:
        """Start to use a reference; okay, and a further use in ``uses``, or a refusal."""
        granter, gref = key
        if gref >= self.table_length[granter]:
            return "bad_gntref"
        uses = self.uses.setdefault(key, [])
        if uses and uses[0].caller != caller:
            return "general_error"
        flags, grantee = self.header(key)
        kind = flags & GTF_type_mask
        passes_on = kind == GTF_transitive and self.versions[granter] == 2 and not mapping
        if passes_on and not first_link:
            return "general_error"
        new_right = not uses or (write and not any(use.write for use in uses))
        if new_right:
            usable = kind == GTF_permit_access or passes_on
            if mapping and flags & GTF_sub_page:
                usable = False
            if not uses and not (usable and grantee == caller):
                return "general_error"
            if write and flags & GTF_readonly:
                return "general_error"
            self.change_marks(key, add=WRITE if write else READ)
        if passes_on:
            status, use = self.pass_on(key, caller, write)
        else:
            status, use = self.page_of(key, caller, write, new_right, mapping)
        if use is None:
            self.unmark(key, write)
        else:
            uses.append(use)
        return status

    def page_of(
        self, key: Key, caller: int, write: bool, new_right: bool, mapping: bool
    ) -> tuple[str, Use | None]:
        uses = self.uses[key]
        if new_right and not (mapping and uses) and self.owner.get(self.frame(key)) != key[0]:
            return "bad_page", None
        if uses:
            return "okay", replace(uses[0], write=write, behind=None)
        use = Use(caller, write, self.frame(key))
        if self.versions[key[0]] == 2 and self.header(key)[0] & GTF_sub_page:
            _, _, start, length, _ = GRANT_ENTRY_V2_SUB.unpack_from(self.entry(key))
            use = replace(use, start=start, length=length, part=True)
        return "okay", use

    def pass_on(self, key: Key, caller: int, write: bool) -> tuple[str, Use | None]:
        fields = GRANT_ENTRY_V2_TRANSITIVE.unpack_from(self.entry(key))
        behind = (fields[2], fields[4])
        if behind[0] == key[0] or behind[0] >= len(self.versions):
            return "general_error", None
        status = self.begin(behind, key[0], write, mapping=False, first_link=False)
        if status != "okay":
            return status, None
        use = replace(self.uses[behind][-1], caller=caller, part=True, behind=behind)
        uses = self.uses[key]
        if uses and replace(uses[0], write=write, behind=behind) != use:
            self.end(behind, self.uses[behind][-1])
            return "eagain", None
        return "okay", use

    def end(self, key: Key, use: Use) -> None:
        self.uses[key].remove(use)
        self.unmark(key, use.write)
        if use.behind is not None:
            behind = next(
                one
                for one in self.uses[use.behind]
                if one.write == use.write and one.caller == key[0]
            )
            self.end(use.behind, behind)

    # Operations

    def map(self, caller: int, key: Key, write: bool) -> str:
        if key[0] >= len(self.versions):
            return "bad_domain"
        return self.begin(key, caller, write, mapping=True)

    def copy(self, caller: int, source: Ref | Own, dest: Ref | Own, length: int) -> str:
        if length == 0:
            return "okay"
        for end in (source, dest):
            if isinstance(end, Own) and end.domid != DOMID_SELF:
                return "permission_denied"
            if isinstance(end, Ref) and not (
                end.domid < len(self.versions) or end.domid == DOMID_SELF
            ):
                return "bad_domain"
        begun: list[tuple[Key, Use]] = []
        parts = []
        status = "okay"
        for end, write in ((source, False), (dest, True)):
            if isinstance(end, Own):
                if self.owner.get(end.frame) != caller:
                    status = "bad_page"
                    break
                parts.append(Use(caller, write, end.frame))
            else:
                key = (caller if end.domid == DOMID_SELF else end.domid, end.gref)
                status = self.begin(key, caller, write, mapping=False)
                if status != "okay":
                    break
                begun.append((key, self.uses[key][-1]))
                parts.append(self.uses[key][-1])
        if status == "okay":
            status = self.move(source.offset, dest.offset, length, *parts)
        for key, use in begun:
            self.end(key, use)
        return status

    def move(self, source_at: int, dest_at: int, length: int, source: Use, dest: Use) -> str:
        if max(source_at, dest_at) + length > PAGE_SIZE:
            return "bad_copy_arg"
        for at, part in ((source_at, source), (dest_at, dest)):
            if at < part.start or at + length > part.start + part.length:
                return "general_error"
        data = self.content[source.frame][source_at : source_at + length]
        self.content[dest.frame][dest_at : dest_at + length] = data
        return "okay"

    def transfer(self, caller: int, frame: int, key: Key) -> str:
        mapped = {use.frame for uses in self.uses.values() for use in uses}
        if self.owner.get(frame) != caller or frame in mapped:
            return "bad_page"
        del self.owner[frame]
        if key[0] >= len(self.versions):
            del self.content[frame]
            return "bad_domain"
        if key[1] >= self.table_length[key[0]] or self.header(key) != (
            GTF_accept_transfer,
            caller,
        ):
            del self.content[frame]
            return "general_error"
        self.owner[frame] = key[0]
        entry = self.entry(key)
        done = GTF_accept_transfer | GTF_transfer_committed | GTF_transfer_completed
        entry[0:2] = done.to_bytes(2, "little")
        width = 4 * self.versions[key[0]]
        entry[width:] = frame.to_bytes(width, "little")
        return "okay"
