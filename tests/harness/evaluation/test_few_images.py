"""Data sets smaller than any protocol expects: numbers, or one line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from repro.cli.parser import main
from tests.data.test_folders import write_tree


@pytest.mark.parametrize("protocol", ["knn", "linear", "logistic"])
@pytest.mark.parametrize("classes", [1, 2])
def test_one_or_two_classes_of_three_images_give_numbers(
    tmp_path: Path, small: str, protocol: str, classes: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Fewer images than neighbours, fewer classes than a top-5 accuracy has places."""
    root = write_tree(tmp_path / "few")
    if classes == 1:
        for part in ("train", "val"):
            shutil.rmtree(root / part / "rocket")
    words = ["eval", protocol, "--weights", small, "--data", f"few={root}", "--epochs", "1"]
    code = main(words)
    said = capsys.readouterr()
    if protocol == "logistic" and classes == 1:
        assert code == 2
        assert "class" in said.err
        return
    assert code == 0
    metrics = json.loads(Path(said.out.splitlines()[-1]).read_text())["metrics"]
    accuracies = [n for key, n in metrics.items() if not key.endswith(("rate", "penalty"))]
    shares = {round(value * 3 * classes / 100, 6) for value in accuracies}
    assert all(share in range(3 * classes + 1) for share in shares)
    assert classes > 1 or shares == {3}
