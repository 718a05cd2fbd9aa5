"""The arguments of a command, which a client may have made of anything."""

from __future__ import annotations

from collections.abc import Collection

from attrs import define, field

from xennet.hostd.json_lines import Json

#: Most characters of a value in a message.
_SHOWN = 80


class CommandError(Exception):
    """A command cannot be carried out, and nothing was done. The message is one line with the
    evidence."""


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


@define
class Arguments:
    """The ``values`` of a command's arguments by name. Each method takes one, and raises
    CommandError for a value that it cannot be."""

    values: Json
    _taken: set[str] = field(init=False, factory=set)

    def require_no_more(self) -> None:
        """Raises CommandError if there is an argument that nobody has taken."""
        if left := sorted(self.values.keys() - self._taken):
            raise CommandError(f"unknown argument {_shown(left[0])}")

    def text(self, name: str, default: str | None = None) -> str:
        """A text without control characters, of at most 4096 characters; without ``default`` it has
        to be there."""
        value = self._taking(name, default)
        if not isinstance(value, str) or len(value) > 4096 or not value.isprintable():
            raise CommandError(f"{name} has to be a text, not {_shown(value)}")
        return value

    def word(self, name: str, default: str | None = None) -> str:
        """A text as :meth:`text`, or a number, as text."""
        if type(number := self.values.get(name)) is int:
            self._taken.add(name)
            return str(number)
        return self.text(name, default)

    def choice(self, name: str, choices: Collection[str], default: str) -> str:
        """One of ``choices``."""
        value = self.text(name, default)
        if value not in choices:
            raise CommandError(f"{name} has to be one of {', '.join(choices)}, not {_shown(value)}")
        return value

    def number(self, name: str, least: int, most: int, default: int | None = None) -> int:
        """A number in ``least`` ... ``most``; without ``default`` it has to be there."""
        return self._in_range(name, self._taking(name, default), least, most)

    def optional_number(self, name: str, least: int, most: int) -> int | None:
        """A number in ``least`` ... ``most``, or None if there is none."""
        value = self.values.get(name)
        self._taken.add(name)
        return None if value is None else self._in_range(name, value, least, most)

    def flag(self, name: str) -> bool:
        """A truth value, False if there is none."""
        value = self._taking(name, False)
        if not isinstance(value, bool):
            raise CommandError(f"{name} has to be true or false, not {_shown(value)}")
        return value

    def seconds(self, name: str, most: float, default: float) -> float:
        """A number of seconds from 0 to ``most``."""
        value = self._taking(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
            raise CommandError(f"{name} has to be 0 to {most:g} seconds, not {_shown(value)}")
        return float(value)

    def _in_range(self, name: str, value: object, least: int, most: int) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise CommandError(
                f"{name} has to be a number from {least} to {most}, not {_shown(value)}"
            )
        return value

    def _taking(self, name: str, default: object) -> object:
        self._taken.add(name)
        value = self.values.get(name)
        if value is None:
            value = default
        if value is None:
            raise CommandError(f"{name} is missing")
        return value
