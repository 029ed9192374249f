"""Experiment files, profiles and scales with something wrong in them: read, or one line."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import strategies as st

from repro.decode.plain_yaml import read
from repro.errors import UserError
from repro.harness.experiments.clusters import load_cluster
from repro.harness.experiments.experiment import load, row_config
from tests.fuzz.searching import ODD, search, values

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
NAMES = ("T7", "F7", "T8", "T2", "AC_K")


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(EXPERIMENTS, tmp_path / "experiments")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "experiments"


def read_all(file: Path) -> None:
    """Everything that a command would take from this file."""
    try:
        experiment = load(file)
        for row in experiment.rows:
            for variant in experiment.runs_a_row:
                if not row.why_not("smoke"):
                    row_config(experiment, row, "smoke", 0, variant)
    except UserError as error:
        said = str(error)
    else:
        return
    assert str(file.parent) in said


def places(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    if isinstance(content, dict | list):
        for key in content if isinstance(content, dict) else range(len(content)):
            yield from places(content[key], (*path, key))


def with_another(content: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    changed = dict(content) if isinstance(content, dict) else list(content)
    changed[path[0]] = with_another(content[path[0]], path[1:], value)
    return changed


def test_whatever_stands_in_an_experiment_file_is_read_or_one_line(copy: Path) -> None:
    contents = {name: read((copy / f"{name}.yaml").read_text(), name) for name in NAMES}
    spots = [(name, path) for name in NAMES for path in places(contents[name])]

    def check(changes: list[tuple[tuple[str, tuple[Any, ...]], Any]]) -> None:
        (name, _), _ = changes[0]
        content = contents[name]
        for (other, path), value in changes:
            if other == name and path in set(places(content)):
                content = with_another(content, path, value)
        try:
            text = yaml.safe_dump(content, allow_unicode=True)
        except (yaml.YAMLError, UnicodeError):
            return
        (copy / f"{name}.yaml").write_text(text, encoding="utf-8", errors="replace")
        read_all(copy / f"{name}.yaml")

    search(check, st.lists(st.tuples(st.sampled_from(spots), values), min_size=1, max_size=2), 40)


def cut_in(texts: dict[str, str]) -> st.SearchStrategy[tuple[str, str]]:
    """A text with something of it left out and something odd put in."""

    @st.composite
    def cut(draw: st.DrawFn) -> tuple[str, str]:
        name = draw(st.sampled_from(sorted(texts)))
        start = draw(st.integers(0, len(texts[name])))
        end = start + draw(st.sampled_from((0, 1, 5, 40, 10_000)))
        odd = draw(st.sampled_from(ODD) | st.text(max_size=3))
        return name, texts[name][:start] + odd + texts[name][end:]

    return cut()


def test_whatever_is_typed_into_an_experiment_file_is_read_or_one_line(copy: Path) -> None:
    texts = {name: (copy / f"{name}.yaml").read_text() for name in NAMES}

    def check(changed: tuple[str, str]) -> None:
        name, text = changed
        (copy / f"{name}.yaml").write_text(text, encoding="utf-8", errors="replace")
        read_all(copy / f"{name}.yaml")

    search(check, cut_in(texts), 40)


def test_whatever_is_typed_into_a_profile_is_read_or_one_line(copy: Path) -> None:
    folder = copy / "clusters"
    texts = {path.stem: path.read_text() for path in folder.glob("*.yaml")}

    def check(changed: tuple[str, str]) -> None:
        name, text = changed
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8", errors="replace")
        try:
            load_cluster(name)
        except UserError as error:
            said = str(error)
        else:
            return
        assert str(folder) in said

    search(check, cut_in(texts), 80)
