"""Completion of the command line in bash and zsh; click's own completion is good enough for fish.

click's scripts put a blank behind every word, also behind ``pcap:``, and do not know that bash
takes what follows a colon for a word of its own.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

import click
from click.shell_completion import (
    BashComplete,
    ZshComplete,
    add_completion_class,
    shell_complete,
    split_arg_string,
)

from xennet.port.spec import PORTS

_BASH = """\
%(complete_func)s() {
    local IFS=$'\\n' word
    COMPREPLY=()
    for word in $(COMP_LINE="$COMP_LINE" COMP_POINT="$COMP_POINT" \\
            COMP_WORDBREAKS="$COMP_WORDBREAKS" %(complete_var)s=bash_complete "$1"); do
        COMPREPLY+=("$word")
        [[ $word == *[:/] ]] && compopt -o nospace
    done
}

complete -o nosort -F %(complete_func)s %(prog_name)s
"""

_ZSH = """\
#compdef %(prog_name)s

%(complete_func)s() {
    local word
    local -a whole open
    for word in "${(@f)$(COMP_WORDS="${words[*]}" COMP_CWORD=$((CURRENT-1)) \\
            %(complete_var)s=zsh_complete "${words[1]}")}"; do
        [[ -z $word ]] && continue
        if [[ $word == *[:/] ]]; then open+=("$word"); else whole+=("$word"); fi
    done
    (( $#open )) && compadd -U -V open -S '' -- $open
    (( $#whole )) && compadd -U -V whole -- $whole
}

if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    %(complete_func)s "$@"
else
    compdef %(complete_func)s %(prog_name)s
fi
"""
#: Characters that need a backslash in a word of the shell.
_SPECIAL = re.compile(r"[^\w@%+=:,./~-]")


def _option(incomplete: str) -> str:
    """The ``--option=`` at the beginning of a word; the word's completions come without it."""
    option, equals, _ = incomplete.partition("=")
    return option + equals if equals and option.startswith("--") else ""


class _Bash(BashComplete):
    """Completes the whole word, and returns the part of it that bash takes for the word."""

    source_template = _BASH

    def get_completion_args(self) -> tuple[list[str], str]:
        line = os.environ["COMP_LINE"][: int(os.environ["COMP_POINT"])]
        words = split_arg_string(line)
        incomplete = words.pop() if words and not line[-1].isspace() else ""
        return words[1:], incomplete

    def complete(self) -> str:
        args, incomplete = self.get_completion_args()
        option = _option(incomplete)
        breaks = [incomplete.rfind(c) for c in ":=" if c in os.environ["COMP_WORDBREAKS"]]
        known = max(breaks, default=-1) + 1
        words = (option + item.value for item in self.get_completions(args, incomplete))
        return "\n".join(_SPECIAL.sub(r"\\\g<0>", word[known:]) for word in words)


class _Zsh(ZshComplete):
    """Returns words without descriptions, one per line."""

    source_template = _ZSH

    def complete(self) -> str:
        args, incomplete = self.get_completion_args()
        option = _option(incomplete)
        return "\n".join(option + item.value for item in self.get_completions(args, incomplete))


def answer(command: click.Command, variable: str, instruction: str) -> int:
    """Answer the shell and return the exit code.

    ``instruction`` is the value of the environment variable ``variable``: "bash_source",
    "bash_complete" and so on.
    """
    for shell in (_Bash, _Zsh):
        add_completion_class(shell)
    return shell_complete(command, {}, "xennet", variable, instruction)


def ports(incomplete: str) -> list[str]:
    """The completions of a port specification.

    These are kinds of ports, and files for the kinds that have one. Behind a ``+`` there are only
    the kinds that may stand there.
    """
    before, plus, last = incomplete.rpartition("+")
    if not plus or before.partition(":")[0] not in PORTS:
        before, plus, last = "", "", incomplete
    known = PORTS.usable()
    kind, colon, argument = last.partition(":")
    if colon:
        scheme = known.get(kind)
        if scheme is None or not (scheme.reads_file or scheme.writes_file):
            return []
        whole = _files(argument) + _options(argument, scheme.options)
        return [f"{before}{plus}{kind}:{one}" for one in whole]
    first = known.get(before.partition(":")[0])
    beside = () if first is None else ("records",) if first.plays else ("plays",)
    return [
        f"{before}{plus}{name}:"
        for name, scheme in known.items()
        if name.startswith(kind) and all(getattr(scheme, role) for role in beside)
    ]


def links(incomplete: str) -> list[str]:
    """The completions of a link's specification: kinds, and files for the kinds that have one."""
    from xennet.run.links import LINKS

    known = LINKS.usable()
    name, colon, argument = incomplete.partition(":")
    if not colon:
        begun = [one for one in known if one.startswith(name)]
        return [f"{one}:" if known[one].usage.startswith(f"{one}:") else one for one in begun]
    kind = known.get(name)
    if kind is None or not kind.is_file:
        return []
    return [f"{name}:{one}" for one in _files(argument) + _options(argument, kind.file_options)]


def _options(begun: str, options: Sequence[str]) -> list[str]:
    """A file and each of its ``options`` that completes ``begun``, if that has a question mark."""
    path, mark, option = begun.rpartition("?")
    return [f"{path}?{one}" for one in options if mark and one.startswith(option)]


def _files(begun: str) -> list[str]:
    """The paths that begin with ``begun``; directories get a slash, hidden files need a dot in
    ``begun``."""
    directory, name = os.path.split(begun)
    try:
        entries = sorted(os.scandir(directory or "."), key=lambda entry: entry.name)
    except OSError:
        return []
    return [
        os.path.join(directory, entry.name) + ("/" if entry.is_dir() else "")
        for entry in entries
        if (entry.name.startswith(name) if name else not entry.name.startswith("."))
    ]
