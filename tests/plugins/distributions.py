"""Distributions as pip leaves them: a module and a dist-info folder on the path."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

#: install(distribution, module, source, group, entry points)
Install = Callable[[str, str, str, str, dict[str, str]], None]


def install(
    folder: Path, distribution: str, module: str, source: str, group: str, names: dict[str, str]
) -> None:
    """Put version 1.0 of ``distribution`` into ``folder``, with one module and entry points."""
    (folder / f"{module}.py").write_text(source)
    info = folder / f"{distribution.replace('-', '_')}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    lines = [f"{name} = {target}" for name, target in names.items()]
    (info / "entry_points.txt").write_text("\n".join([f"[{group}]", *lines, ""]))
