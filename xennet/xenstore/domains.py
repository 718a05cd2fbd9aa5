"""The domains that the store knows: since when, introduced or not, and whose rights they share."""

from __future__ import annotations

from attrs import define, field

from xennet.xenstore.quota import Quota, Refusal


@define(eq=False)
class Domain:
    """What the store knows of one life of a domain.

    ``generation`` is the store's generation when the domain became known: permission entries of
    nodes last written before belong to an earlier domain of the same number. ``quota`` and
    ``features`` are the domain's own, None for those of all domains. ``refusals`` has the last
    refusal by each limit, by its name.
    """

    domid: int
    generation: int
    introduced: bool = False
    shutdown: bool = False
    target: int | None = None
    quota: Quota | None = None
    features: int | None = None
    refusals: dict[str, Refusal] = field(factory=dict)


class Domains:
    """The domains that exist in the machine, and those of them that the store knows."""

    def __init__(self) -> None:
        self._known = {0: Domain(0, 0, introduced=True)}
        self._existing = {0}

    def __repr__(self) -> str:
        return f"<Domains {sorted(self._known)}>"

    def exists(self, domid: int) -> bool:
        """Whether the machine has such a domain, introduced or not."""
        return domid in self._existing

    def created(self, domid: int) -> None:
        """Note that the machine has a new domain."""
        self._existing.add(domid)

    def destroyed(self, domid: int) -> None:
        """Note that the machine has no such domain any more."""
        self._existing.discard(domid)

    def known(self, domid: int, generation: int) -> Domain:
        """The record of an existing domain; it is created if the store does not know the domain
        yet."""
        domain = self._known.get(domid)
        if domain is None:
            domain = self._known[domid] = Domain(domid, generation)
        return domain

    def get(self, domid: int) -> Domain | None:
        """The record of a domain; None if the store does not know it."""
        return self._known.get(domid)

    def introduced(self, domid: int) -> Domain | None:
        """The record of an introduced domain; None if it is not introduced."""
        domain = self._known.get(domid)
        return domain if domain is not None and domain.introduced else None

    def target(self, domid: int) -> int | None:
        """The domain whose rights ``domid`` shares since SET_TARGET; None if there is none."""
        domain = self._known.get(domid)
        return domain.target if domain is not None else None

    def forget(self, domid: int) -> list[int]:
        """End this life of ``domid``. Returns the domains that had it as their target.

        These lose its rights, or they would share those of the next domain ``domid``.
        """
        self._known.pop(domid, None)
        stubs = [d for d in self._known.values() if d.target == domid]
        for stub in stubs:
            stub.target = None
        return [stub.domid for stub in stubs]

    def is_current(self, domid: int, generation: int) -> bool:
        """Whether an entry for ``domid`` that was written at ``generation`` means the domain of
        today."""
        domain = self._known.get(domid)
        return domain is not None and domain.generation <= generation
