"""The Xen vif as a link: a guest and domain 0 of an emulated machine, joined by a split driver."""

from __future__ import annotations

from xennet.errors import LinkError
from xennet.frames import Endpoint
from xennet.host.domains import PluggedVif
from xennet.host.setup import Setup
from xennet.html_table import html_table
from xennet.link.vifs import Vifs
from xennet.netback.device import Vif
from xennet.netfront.device import Netfront
from xennet.pump import Clock


class VifLink(Vifs):
    """One guest with one vif, made of every part of this package.

    ``guest`` is the network stack's side of netfront, ``host`` that of netback; either may give and
    take frames. ``setup`` None: Linux's drivers with their defaults, and a grant table of
    ``grant_version``. ``clock`` is that of the host's pump (None: virtual time). The parts are
    public: ``host``, ``machine``, ``netfront``, ``netback``, ``toolstack``, ``service``, ``paths``,
    ``timeline``.
    """

    def __init__(
        self,
        guest: Endpoint,
        host: Endpoint,
        *,
        grant_version: int = 1,
        setup: Setup | None = None,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(Setup(grant_version=grant_version) if setup is None else setup, clock)
        self.machine = self.host.machine
        self.toolstack = self.host.toolstack
        self.service = self.host.service
        self._pair = self.join(guest, host)

    def _repr_html_(self) -> str:
        """A notebook's tables of the vif; before :meth:`open`, a line."""
        vif = self._pair.vif
        return html_table(repr(self), (), ()) if vif is None else vif._repr_html_()

    @property
    def vif(self) -> PluggedVif:
        """The vif of the host, the argument of ``why``. Raises LinkError before :meth:`open`."""
        return self._pair.plugged

    @property
    def netfront(self) -> Netfront | None:
        """The guest's driver; None before :meth:`open`."""
        return self._pair.vif.netfront if self._pair.vif is not None else None

    @property
    def netback(self) -> Vif:
        """The backend's driver. Raises LinkError before :meth:`open`."""
        netback = self.vif.netback
        if netback is None:
            raise LinkError("the vif has no backend yet")
        return netback
