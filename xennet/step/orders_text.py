"""All orders of some deliveries (xennet.step.explore) as text, as JSON, and for graphviz."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterable, Iterator
from textwrap import wrap

from xennet.step.explore import End, Explored, State
from xennet.step.stepped_run import Asked

#: Columns of the text, but for commands, which stand in one line each.
WIDTH = 80
#: Most lines of a tree that shows what loses nothing as well.
_MOST_LINES = 60
#: Most lines of any tree.
_MOST_OF_ALL = 400


def text_lines(explored: Explored, asked: Asked) -> Iterator[str]:
    """The lines that say what there is: states and orders by delivery, the tree of states, and the
    ends, with the commands that come to those at which something is left."""
    words = shlex.join(asked.words)
    yield f"{'deliveries':>10}  {'orders':>12}  {'states':>8}"
    for step, layer in enumerate(explored.layers):
        yield f"{step:>10}  {sum(state.orders for state in layer):>12}  {len(layer):>8}"
    yield ""
    yield from _tree(explored)
    for ends in _alike(explored.ends):
        yield ""
        numbers = ", ".join(str(end.number) for end in ends)
        orders = sum(end.orders for end in ends)
        share = f"{orders} of {_number(explored.orders, 'order')}"
        yield from wrap(f"end {numbers}, {share}: {_verdict(ends[0])}", WIDTH)
        for sentence in ends[0].lost:
            yield from wrap(sentence, WIDTH, initial_indent="  ", subsequent_indent="  ")
        for end in ends if ends[0].lost else ():
            yield from (f"  {ring}" for ring in end.rings)
            yield f"  xennet step {words} --choices {end.choices}"
            yield f"  xennet trace run {words} --choices {end.choices} -o lost.html"
    yield ""
    yield summary(explored)


def summary(explored: Explored) -> str:
    """One sentence: how many orders, states and ends, and what is lost."""
    losing = explored.losing
    orders = sum(end.orders for end in losing)
    said = (
        f"{orders} of them, at {_number(len(losing), 'end')}, lose a wake-up"
        if losing
        else "none of them loses a wake-up"
    )
    return (
        f"{_number(explored.orders, 'order')}, {_number(len([*explored.states]), 'state')}, "
        f"{_number(len(explored.ends), 'end')}: {said}"
    )


def _number(many: int, what: str) -> str:
    return f"{many} {what}{'' if many == 1 else 's'}"


def _verdict(end: End) -> str:
    verdict = "LOST" if end.lost else "all taken"
    return verdict if end.over else f"{verdict}, and a driver works on without end"


def _alike(ends: Iterable[End]) -> Iterator[list[End]]:
    """The ends, those at which the same is lost together."""
    groups: dict[tuple[tuple[str, ...], bool], list[End]] = {}
    for end in ends:
        groups.setdefault((end.lost, end.over), []).append(end)
    yield from groups.values()


def _tree(explored: Explored) -> Iterator[str]:
    """The tree of states. A state to which several orders come is drawn once; if there is too much,
    only what leads to a loss is."""
    edges = sum(len(state.after) for state in explored.states)
    losing = _losing(explored)
    if edges > _MOST_LINES and not losing:
        yield f"({edges} deliveries are not drawn; -o FILE.json and -o FILE.dot have them)"
        return
    shown = losing if edges > _MOST_LINES else {state.number for state in explored.states}
    lines = _Tree(shown).lines(explored.layers[0][0])
    yield "s0"
    for number, line in enumerate(lines):
        if number == _MOST_OF_ALL:
            yield "... (-o FILE.json and -o FILE.dot have all)"
            return
        yield line


def _losing(explored: Explored) -> set[int]:
    """The numbers of the states from which some order comes to a loss."""
    losing: set[int] = set()
    for layer in reversed(explored.layers):
        for state in layer:
            lost = state.end is not None and state.end.lost
            if lost or any(after.number in losing for _, after in state.after):
                losing.add(state.number)
    return losing


class _Tree:
    def __init__(self, shown: set[int]) -> None:
        self._shown = shown
        self._drawn: set[int] = set()

    def lines(self, root: State) -> Iterator[str]:
        """The lines below a state. Where there is one way to go on, the tree does not get wider."""
        stack = self._below(root, "")
        while stack:
            indent, stem, name, after = stack.pop()
            known = after.number in self._drawn
            self._drawn.add(after.number)
            yield _line(f"{indent}{stem}", name, after, known)
            if not known:
                inner = indent + {"+- ": "|  ", "`- ": "   "}.get(stem, "")
                stack += self._below(after, inner)

    def _below(self, state: State, indent: str) -> list[tuple[str, str, str, State]]:
        """What is drawn below a state, last first."""
        ways = [way for way in state.after if way[1].number in self._shown]
        stems = ["+- "] * len(ways)
        if ways:
            stems[-1] = "`- " if len(state.after) > 1 else ""
        return [(indent, stem, *way) for stem, way in zip(stems, ways, strict=True)][::-1]


def _line(stem: str, name: str, after: State, known: bool) -> str:
    tail = f"s{after.number}"
    if known:
        tail += " (above)"
    elif after.end is not None:
        tail += f" = end {after.end.number}" + (" LOST" if after.end.lost else "")
    room = WIDTH - len(stem) - len(tail) - 1
    return f"{stem}{name[:room]:{max(0, min(room, 44))}} {tail}"


def to_json(explored: Explored, asked: Asked) -> dict[str, object]:
    """The document ``xennet-orders/1``."""
    return {
        "format": "xennet-orders/1",
        "run": list(asked.words),
        "choices": str(explored.choices),
        "deliveries": explored.depth,
        "orders": explored.orders,
        "states": [
            {
                "number": state.number,
                "delivery": state.step,
                "choices": str(state.choices),
                "orders": state.orders,
                "after": [{"delivery": name, "state": to.number} for name, to in state.after],
                "end": state.end.number if state.end is not None else None,
            }
            for state in explored.states
        ],
        "ends": [
            {
                "number": end.number,
                "choices": str(end.choices),
                "orders": end.orders,
                "over": end.over,
                "lost": list(end.lost),
                "rings": list(end.rings),
            }
            for end in explored.ends
        ],
    }


def _json_text(explored: Explored, asked: Asked) -> str:
    return json.dumps(to_json(explored, asked), indent=2) + "\n"


def _dot_text(explored: Explored, asked: Asked) -> str:
    """A digraph for graphviz; states from which something is lost are red."""
    losing = _losing(explored)
    lines = ["digraph orders {", "  node [shape=box];"]
    for state in explored.states:
        colour = ", color=red" if state.number in losing else ""
        lines.append(f'  s{state.number} [label="s{state.number}: {state.orders}"{colour}];')
        for name, after in state.after:
            colour = ", color=red" if after.number in losing else ""
            lines.append(f"  s{state.number} -> s{after.number} [label={_quoted(name)}{colour}];")
        if state.end is not None:
            lines.append(f"  s{state.number} -> e{state.end.number};")
    for end in explored.ends:
        what = "LOST" if end.lost else "all taken"
        label = _quoted(f"end {end.number}: {what}\n--choices {end.choices}")
        lines.append(f"  e{end.number} [shape=ellipse, label={label}];")
    return "\n".join((*lines, "}", ""))


def _quoted(text: str) -> str:
    """A string of graphviz, printable ASCII."""
    return json.dumps(text)


#: Suffix of a file -> the text that is written there.
WRITERS: dict[str, Callable[[Explored, Asked], str]] = {".json": _json_text, ".dot": _dot_text}
