"""Kinds of things by name: built-in ones, and those that installed packages add by entry points.

Packages are searched (importlib.metadata, tens of milliseconds) when a name is asked for that is
not built in, or all names are; they are imported when one of their names is used. Built-in kinds
have no entry points: they work from a checkout as well, and nobody can replace them.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib import import_module
from operator import attrgetter
from typing import Any, Generic, NamedTuple, TypeVar

from xennet.errors import PluginError as PluginError

#: A kind of what a registry has.
K = TypeVar("K")
#: A name that a colon, or a plus before it, sets apart from what stands around it.
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*", re.ASCII)


class Plugin(NamedTuple):
    """An entry point: its ``name``, its ``group``, its ``target`` (``module:object``), and the name
    and version of the distribution that has it."""

    name: str
    group: str
    target: str
    distribution: str

    def __str__(self) -> str:
        return f"entry point {self.name!r} of {self.distribution} (group {self.group})"

    def make(self, what: Callable[..., Any], *arguments: object, protocol: type, own: type) -> Any:
        """Call ``what``, which the entry point names.

        Exceptions of the type ``own`` come out as they are. Raises PluginError for any other
        exception, but in Python's development mode, for SystemExit (which says nothing by itself),
        and for a result without one of the public members of ``protocol``.
        """
        members = [name for name in dir(protocol) if not name.startswith("_")]
        try:
            made = what(*arguments)
            missing = [name for name in members if not hasattr(made, name)]
        except (Exception, SystemExit) as error:  # somebody else's code
            shown = isinstance(error, own) or sys.flags.dev_mode
            if shown and not isinstance(error, SystemExit):
                raise
            raise PluginError(f"{self} failed: {_one_line(error)}") from error
        if missing:
            raise PluginError(f"{self} gave {made!r}, which has no {', '.join(missing)}")
        return made


def load(target: str) -> Any:
    """Import the object that ``target`` (``module:object``, as in an entry point) names."""
    module, _, name = target.partition(":")
    return attrgetter(name)(import_module(module))


class Registry(Generic[K]):
    """The kinds of a ``group`` of entry points by name, with those ``built_in``.

    ``adapt(plugin, loaded)`` makes a kind of the object of an entry point; it raises TypeError,
    with the reason, for an object that is none.
    """

    def __init__(
        self, group: str, built_in: Mapping[str, K], adapt: Callable[[Plugin, Any], K]
    ) -> None:
        self.group = group
        self.built_in = built_in
        self._adapt = adapt
        self._plugins: dict[str, list[Plugin]] | None = None
        self._loaded: dict[str, K] = {}
        self._unreadable: list[str] = []

    def __repr__(self) -> str:
        return f"<Registry {self.group}: {', '.join(self.built_in)}>"

    def __contains__(self, name: str) -> bool:
        return name in self.built_in or name in self._installed()

    def get(self, name: str) -> K | None:
        """The kind of that name, None if there is none. Raises PluginError for an entry point that
        cannot be used."""
        kind = self.built_in.get(name) or self._loaded.get(name)
        if kind is None and name in self._installed():
            kind = self._loaded[name] = self._load(name)
        return kind

    def names(self) -> list[str]:
        """All names: the built-in ones, then those of packages in alphabetical order."""
        return [*self.built_in, *sorted(self._installed().keys() - self.built_in.keys())]

    def usable(self) -> dict[str, K]:
        """All kinds that can be used, in the order of :meth:`names`; loads those of packages."""
        kinds = {}
        for name in self.names():
            try:
                kind = self.get(name)
            except PluginError:
                continue
            if kind is not None:
                kinds[name] = kind
        return kinds

    def plugins(self) -> list[Plugin]:
        """The entry points of the group, by name; they may be of no use (:meth:`faults`)."""
        return [plugin for _, plugins in sorted(self._installed().items()) for plugin in plugins]

    def faults(self) -> list[str]:
        """What is wrong with entry points of the group, a line for each."""
        installed = self._installed()
        lines = list(self._unreadable)
        for name, plugins in sorted(installed.items()):
            if name in self.built_in:
                lines += [f"{plugin} has no effect: {name!r} is built in" for plugin in plugins]
                continue
            try:
                self.get(name)
            except PluginError as error:
                lines.append(str(error))
        return lines

    def forget(self) -> None:
        """Search the installed packages anew when that is needed next."""
        self._plugins = None
        self._loaded.clear()

    def _installed(self) -> dict[str, list[Plugin]]:
        """The entry points of the group by name; of one distribution a name counts once."""
        if self._plugins is None:
            self._plugins = {}
            for entry in self._entry_points():
                target = entry.value.partition("[")[0].strip()  # without extras
                plugin = Plugin(entry.name, self.group, target, _shown(entry.dist))
                same = self._plugins.setdefault(plugin.name, [])
                if plugin not in same:
                    same.append(plugin)
        return self._plugins

    def _entry_points(self) -> list[Any]:
        """The importlib.metadata.EntryPoints of the group. A distribution whose metadata cannot be
        read has none, and is noted: importlib would give nobody's then."""
        from importlib.metadata import distributions, entry_points

        self._unreadable = []
        with suppress(Exception):
            return list(entry_points(group=self.group))
        found, seen = [], set[str]()
        for dist in distributions():
            try:
                name, entries = dist.name, list(dist.entry_points.select(group=self.group))
            except Exception as error:  # whatever parsing its files raises
                self._unreadable.append(
                    f"{_shown(dist)} has entry points that cannot be read: {_one_line(error)}"
                )
                continue
            if name not in seen:  # as importlib: the first one on the path counts
                seen.add(name)
                found += entries
        return found

    def _load(self, name: str) -> K:
        plugin, *others = self._installed()[name]
        if others:
            where = " and ".join(sorted(one.distribution for one in (plugin, *others)))
            raise PluginError(
                f"entry point {name!r} (group {self.group}) is in {where}: one has to go"
            )
        if not _NAME.fullmatch(name):
            raise PluginError(f"{plugin} cannot be used: names have letters, digits, '-', '_', '.'")
        try:
            return self._adapt(plugin, load(plugin.target))
        except (Exception, SystemExit) as error:  # an import of somebody else's code
            raise PluginError(f"{plugin} cannot be used: {_one_line(error)}") from error


def _one_line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def _shown(dist: Any) -> str:
    """Name and version of an importlib.metadata.Distribution."""
    try:
        name, version = dist.name, dist.version
    except Exception:  # whatever parsing its files raises
        name = None
    return f"{name} {version}" if name else "a distribution without a name"
