"""docs/notebook.ipynb shows what its cells give, executed in order in a fresh process."""

from __future__ import annotations

import base64
import json
import math
import os
import re
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.notebook.execute import executed, read, written

TOLERANCE = 0.01  # of numbers: other processors round a training otherwise
MOST = 150_000  # bytes of the notebook
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[-+]?\d+)?")
Output = dict[str, Any]


@pytest.fixture(scope="module")
def again(repository: Path) -> dict[str, Any]:
    """The notebook, executed in a process of its own that has no runs but the published ones."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.notebook.execute", "--print"],
        cwd=repository,
        env={k: v for k, v in os.environ.items() if k != "REPRO_RESULTS"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    notebook: dict[str, Any] = json.loads(done.stdout)
    return notebook


def outputs(notebook: dict[str, Any]) -> Iterator[tuple[str, Output]]:
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            yield "".join(cell["source"]), output


def texts(output: Output) -> str:
    data = output.get("data", {"text/plain": output.get("text", [])})
    return "\n".join("".join(data[mime]) for mime in data if mime.startswith("text/"))


def same(one: str, other: str) -> bool:
    """Whether the words are the same and the numbers nearly."""
    numbers = [[float(n) for n in NUMBER.findall(text)] for text in (one, other)]
    words = [re.sub(r"[\s-]+", " ", NUMBER.sub("#", text)) for text in (one, other)]
    near = {"rel_tol": TOLERANCE, "abs_tol": TOLERANCE}
    return words[0] == words[1] and all(
        math.isclose(a, b, **near) for a, b in zip(*numbers, strict=True)
    )


def size_of(png: str) -> tuple[int, int]:
    content = base64.b64decode(png)
    assert content.startswith(b"\x89PNG")
    width, height = struct.unpack(">II", content[16:24])
    return width, height


def test_every_table_and_number_of_the_notebook_comes_out_again(again: dict[str, Any]) -> None:
    committed, found = list(outputs(read())), list(outputs(again))
    assert len(committed) == len(found) > 8
    for (source, shown), (_, now) in zip(committed, found, strict=True):
        made = "python -m tests.notebook.execute writes it anew"
        assert same(texts(shown), texts(now)), f"{source}\n{texts(now)}\n{made}"


def test_its_figure_is_drawn_again_and_is_small(again: dict[str, Any]) -> None:
    pictures = [
        [output["data"]["image/png"] for _, output in outputs(one) if "image/png" in output["data"]]
        for one in (read(), again)
    ]
    assert len(pictures[0]) == len(pictures[1]) == 1
    for shown, now in zip(*pictures, strict=True):
        assert size_of(now) == pytest.approx(size_of(shown), rel=0.05)
        assert len(shown) < 100_000
    assert len(written(read()).encode()) < MOST


def test_another_number_or_word_would_be_noticed(again: dict[str, Any]) -> None:
    table = next(texts(output) for source, output in outputs(again) if "repro.table" in source)
    assert "70.8" in table
    assert not same(table, table.replace("70.8", "72.8"))
    assert not same(table, table.replace("constant", "healthy"))
    assert not same(table, table + " 1")


def test_the_file_is_a_notebook_and_written_as_the_runner_writes_it(repository: Path) -> None:
    notebook = read()
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert written(notebook) == (repository / "docs/notebook.ipynb").read_text()
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(set(ids)) == len(ids)
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))


def cell(source: str) -> dict[str, Any]:
    return {"cell_type": "code", "source": source.splitlines(keepends=True)}


def test_cells_share_their_names_and_show_what_is_printed_and_what_the_last_line_is_worth() -> None:
    first, second = executed({"cells": [cell("x = 2\nprint(x)\nx + 1"), cell("y = x")]})["cells"]
    assert [texts(output) for output in first["outputs"]] == ["2\n", "3"]
    assert second["outputs"] == []


def test_an_error_in_a_cell_ends_it() -> None:
    with pytest.raises(ZeroDivisionError):
        executed({"cells": [cell("1 / 0")]})
