"""docs/notebook/xennet.ipynb: its cells run one behind the other, and show what they say."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

NOTEBOOK = Path(__file__).parents[2] / "docs" / "notebook" / "xennet.ipynb"


def shown_by(cells: list[str]) -> list[Any]:
    """What each cell shows: the value of its last line if that is an expression, else None."""
    names: dict[str, Any] = {}
    shown = []
    for cell in cells:
        tree = ast.parse(cell)
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, str(NOTEBOOK), "exec"), names)
        value = None
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), str(NOTEBOOK), "eval"), names)
        face = getattr(value, "_repr_html_", None)
        shown.append(value if face is None else face())
    return shown


def test_the_cells_run_in_order_and_show_tables() -> None:
    notebook = json.loads(NOTEBOOK.read_text())
    assert (notebook["nbformat"], notebook["metadata"]["kernelspec"]["name"]) == (4, "python3")
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    link, store, empty, _, _, sent, answered, counters, leaks, *recorded = shown_by(
        ["".join(cell["source"]) for cell in code]
    )
    assert "<table" in link
    assert "tx-ring-ref" in store
    assert empty != sent != answered
    assert counters.packets == 1
    assert not leaks
    notifications, avoided, setter, whole = recorded
    assert "tx req_prod goes from 0 to 3" in notifications
    assert "is avoided" in avoided
    assert setter == "store of req_event, rx ring"
    assert whole.startswith("<table><caption>&lt;Trace ")
