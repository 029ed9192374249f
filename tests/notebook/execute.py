"""docs/notebook.ipynb, executed: its code cells in order, in this process, with what they show.

    python -m tests.notebook.execute            # writes what they show into the notebook
    python -m tests.notebook.execute --print    # prints the executed notebook instead

A plain runner, without Jupyter: a cell is Python; what its last line is worth is shown as Jupyter
would, by `_repr_html_` and `_repr_png_`, beside what was printed. An error ends it.
"""

from __future__ import annotations

import ast
import base64
import contextlib
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

NOTEBOOK = Path(__file__).parents[2] / "docs" / "notebook.ipynb"
RICH = {"text/html": "_repr_html_", "image/png": "_repr_png_"}
Cell = dict[str, Any]
Notebook = dict[str, Any]


def executed(notebook: Notebook) -> Notebook:
    """The same notebook with the outputs of this very run."""
    import pandas as pd

    pd.set_option("display.max_columns", 20)  # as in Jupyter, whatever terminal this is
    pd.set_option("display.width", 100)
    names: dict[str, Any] = {"__name__": "__main__"}
    cells, number = [], 0
    for cell in notebook["cells"]:
        if cell["cell_type"] != "code":
            cells.append(cell)
            continue
        number += 1
        outputs = _outputs("".join(cell["source"]), number, names)
        cells.append(cell | {"execution_count": number, "outputs": outputs})
    return notebook | {"cells": cells}


def _outputs(source: str, number: int, names: dict[str, Any]) -> list[dict[str, Any]]:
    tree = ast.parse(source, f"cell {number}")
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    value, printed = None, io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, f"<cell {number}>", "exec"), names)
        if last is not None:
            value = eval(compile(ast.Expression(last.value), f"<cell {number}>", "eval"), names)
    outputs: list[dict[str, Any]] = []
    if printed.getvalue():
        outputs.append({"output_type": "stream", "name": "stdout", "text": _text(printed)})
    if value is not None:
        outputs.append(
            {
                "output_type": "execute_result",
                "execution_count": number,
                "metadata": {},
                "data": _shown(value),
            }
        )
    return outputs


def _shown(value: Any) -> dict[str, Any]:
    data: dict[str, Any] = {}
    for mime, method in RICH.items():
        content = getattr(value, method, lambda: None)()
        if isinstance(content, bytes):
            data[mime] = base64.b64encode(content).decode()
        elif content is not None:
            data[mime] = content.splitlines(keepends=True)
    return data | {"text/plain": repr(value).splitlines(keepends=True)}


def _text(printed: io.StringIO) -> list[str]:
    return printed.getvalue().splitlines(keepends=True)


def read() -> Notebook:
    notebook: Notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    return notebook


def written(notebook: Notebook) -> str:
    """As its file is written."""
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def main(arguments: Sequence[str]) -> None:
    text = written(executed(read()))
    if "--print" in arguments:
        print(text, end="")
    else:
        NOTEBOOK.write_text(text, encoding="utf-8")
        print(NOTEBOOK)


if __name__ == "__main__":
    main(sys.argv[1:])
