"""Nothing lies about that nobody uses: protocols that nobody names, functions, methods, constants
and fields without a caller in the package, its documents or its tests.

Mentions are looked for, types are not inferred: a method counts as used where any attribute of its
name is. What the public headers define (xennet/abi) is there whether or not it is used.
"""

from __future__ import annotations

import ast
import gc
import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CODE = ("xennet", "tests", "tools")
TEXT = ("docs/**/*.md", "README.md", "pyproject.toml", "Makefile")
#: Name -> why it may stay although nobody mentions it.
KEPT = {
    "xennet/cli/__init__.py: _Commands.format_commands": "click calls it",
    "xennet/cli/run.py: _PortType.convert": "click calls it",
    "xennet/cli/run.py: _LinkType.convert": "click calls it",
    "xennet/cli/choices_type.py: ChoicesType.convert": "click calls it",
    "xennet/cli/run.py: _DriverType.convert": "click calls it",
    "xennet/cli/run.py: _DriverType.get_metavar": "click calls it",
    "xennet/cli/seconds.py: Seconds.convert": "click calls it",
    "xennet/moved.py: _Finder.create_module": "the import system calls it",
    "xennet/observe.py: DomainDestroyed.zombie": "for observers; the tests compare whole events",
}

_WORD = re.compile(r"[A-Za-z_]\w*")
#: Whoever inherits from these is called back by nobody.
_MERE_BASES = {"Protocol", "Exception", "Enum", "IntEnum", "IntFlag", "NamedTuple", "Generic"}
#: Decorators by which a function is put where it is called from.
_REGISTERS = {"command", "group", "default", "validator", "setter", "fixture", "check"} | {
    "backend_move",
    "frontend_move",
}

Sources = dict[str, str]


class File:
    """What a file mentions: names that it loads, names that it imports (module and name), and
    what may be anybody's: attributes, keyword arguments, words in strings."""

    def __init__(self, path: str, source: str) -> None:
        self.path = path
        self.tree = ast.parse(source)
        self.loads: Counter[str] = Counter()
        self.imports: set[tuple[str, str]] = set()
        self.outside: set[str] = set()
        self.anybodys: set[str] = set()
        docstrings: set[int] = set()
        for node in ast.walk(self.tree):
            match node:
                case ast.Name(id=name, ctx=ast.Load() | ast.Del()):
                    self.loads[name] += 1
                case ast.Attribute(attr=name) | ast.keyword(arg=str(name)):
                    self.anybodys.add(name)
                case ast.Constant(value=str(words)) if id(node) not in docstrings:
                    self.anybodys.update(_WORD.findall(words))
                case ast.ImportFrom(module=str(module), names=names):
                    self.imports |= {(module, alias.name) for alias in names}
                    if not module.startswith("xennet"):
                        self.outside |= {alias.asname or alias.name for alias in names}
                case ast.MatchClass(kwd_attrs=names):
                    self.anybodys.update(names)
                case ast.Module(body=[ast.Expr(value=text), *_]):
                    docstrings.add(id(text))
                case ast.ClassDef(body=[ast.Expr(value=text), *_]):
                    docstrings.add(id(text))
                case ast.FunctionDef(body=[ast.Expr(value=text), *_]):
                    docstrings.add(id(text))
        if path.endswith("__init__.py"):
            # It hands on what it imports and lists; what it loads it uses.
            self.imports = {(module, name) for module, name in self.imports if self.loads[name]}
            self.anybodys.clear()


class Code:
    """All files, and who mentions what."""

    def __init__(self, code: Sources, text: str = "") -> None:
        self.files = [File(path, source) for path, source in code.items()]
        self.package = [file for file in self.files if file.path.startswith("xennet/")]
        self.imported = {name for file in self.files for _, name in file.imports}
        self.anybodys = set(_WORD.findall(text)).union(*(file.anybodys for file in self.files))

    def dead_names(self) -> list[str]:
        """ "path: name" of what the package defines and nobody mentions. Private names are ruff's
        and the reader's; special methods are Python's."""
        dead = []
        for file in self.package:
            if file.path.startswith("xennet/abi/"):
                continue
            for node in file.tree.body:
                for name in defined(node):
                    if not (name.startswith("__") or self._mentions(file, node, name)):
                        dead.append(f"{file.path}: {name}")
                if isinstance(node, ast.ClassDef) and not may_be_called_back(node, file.outside):
                    members = {name for member in node.body for name in defined(member)}
                    dead += [
                        f"{file.path}: {node.name}.{name}"
                        for name in sorted(members - self.anybodys)
                        if not name.startswith("_")
                    ]
        return dead

    def _mentions(self, file: File, node: ast.stmt, name: str) -> bool:
        """Whether anybody mentions what ``node`` in a module's body defines, itself apart."""
        if name in self.imported or name in self.anybodys:
            return True
        return file.loads[name] > loads_of(node, name)

    def unused_protocols(self) -> list[str]:
        """ "path: name" of the protocols that no annotation, base class or call of the package
        names: in their own file, or in one that imports them from there or a package around."""
        unused = []
        for file in self.package:
            module = file.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
            packages = [module[:end] for end, c in enumerate(f"{module}.") if c == "."]
            for node in file.tree.body:
                if isinstance(node, ast.ClassDef) and loads_of(node, "Protocol"):
                    origins = {(package, node.name) for package in packages}
                    users = [user for user in self.package if user.imports & origins]
                    users = [user for user in users if user.loads[node.name]]
                    if not users and file.loads[node.name] == loads_of(node, node.name):
                        unused.append(f"{file.path}: {node.name}")
        return unused


def loads_of(node: ast.AST, name: str) -> int:
    names = (each for each in ast.walk(node) if isinstance(each, ast.Name) and each.id == name)
    return sum(not isinstance(each.ctx, ast.Store) for each in names)


def defined(node: ast.stmt) -> list[str]:
    """The names that a statement of a module's or class' body defines."""
    match node:
        case ast.FunctionDef(name=name) if name.startswith(("test_", "pytest_")):
            return []  # pytest calls it (xennet.testing)
        case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
            return [] if registered(node) else [name]
        case ast.Assign(targets=targets):
            return [target.id for target in targets if isinstance(target, ast.Name)]
        case ast.AnnAssign(target=ast.Name(id=name)):
            return [name]
    return []


def registered(node: ast.FunctionDef | ast.ClassDef) -> bool:
    called = [d.func if isinstance(d, ast.Call) else d for d in node.decorator_list]
    return any(getattr(d, "attr", getattr(d, "id", "")) in _REGISTERS for d in called)


def may_be_called_back(node: ast.ClassDef, outside: set[str]) -> bool:
    """Whether a class inherits from one that is not of this package."""
    bases = [base.value if isinstance(base, ast.Subscript) else base for base in node.bases]
    return any(
        isinstance(base, ast.Attribute)
        or (isinstance(base, ast.Name) and base.id in outside - _MERE_BASES)
        for base in bases
    )


@pytest.fixture(scope="module")
def code() -> Code:
    """All code but this file, and all documents."""
    files = [path for folder in CODE for path in sorted((ROOT / folder).rglob("*.py"))]
    files.remove(Path(__file__))
    text = "\n".join(path.read_text() for glob in TEXT for path in ROOT.glob(glob))
    gc.disable()  # it would look through all trees so far, again and again
    try:
        return Code({str(path.relative_to(ROOT)): path.read_text() for path in files}, text)
    finally:
        gc.enable()


def test_everything_that_is_defined_is_used_somewhere(code: Code) -> None:
    assert [entry for entry in code.dead_names() if entry not in KEPT] == []


def test_what_is_kept_although_nobody_uses_it_is_still_there(code: Code) -> None:
    assert set(KEPT) <= set(code.dead_names())


def test_every_protocol_is_named_by_somebody(code: Code) -> None:
    assert code.unused_protocols() == []


DEAD = {
    "xennet/a.py": '''
"""alone, Alone.method and LONELY are mentioned in docstrings only."""
from typing import Protocol
from click import ParamType

LONELY = 1
USED = 2

class Alone:
    """LONELY."""
    field: int = 0
    def method(self) -> "Alone":
        return self.other()
    def other(self):
        return USED

class Kind(ParamType):
    def convert(self): ...

class Unused(Protocol):
    def read(self) -> "Unused": ...

class Taken(Protocol):
    def read(self): ...

def alone(kind: Kind, taken: Taken):
    return alone

@xs.command("list")
def list_(): ...
''',
    "xennet/__init__.py": "from xennet.a import Unused, alone\n__all__ = ['Unused', 'alone']\n",
    "tests/test_a.py": "from xennet.a import Alone\nAlone(field=1)\n",
    "xennet/b.py": "from other import Unused\n\ndef f(x: Unused): return x.read\n\nf(1)\n",
}


def test_the_search_finds_what_is_dead_and_nothing_else() -> None:
    dead = ["xennet/a.py: LONELY", "xennet/a.py: Alone.method", "xennet/a.py: alone"]
    assert Code(DEAD).dead_names() == dead
    assert Code(DEAD, "call `alone`").dead_names() == dead[:2]
    assert Code(DEAD).unused_protocols() == ["xennet/a.py: Unused"]
