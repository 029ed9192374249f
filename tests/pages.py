"""What the README, CONTRIBUTING and docs/ say, taken apart: commands, tables, links."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).parents[1]
SHELL, YAML = "sh", "yaml"
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Page:
    path: Path

    @property
    def name(self) -> str:
        return self.path.relative_to(ROOT).as_posix()

    @cached_property
    def text(self) -> str:
        return self.path.read_text()

    @cached_property
    def prose(self) -> str:
        """The text without its fenced blocks."""
        return _FENCE.sub("", self.text)

    def blocks(self, language: str) -> list[str]:
        return [body for kind, body in _FENCE.findall(self.text) if kind == language]

    @property
    def languages(self) -> set[str]:
        return {kind for kind, _ in _FENCE.findall(self.text)}

    @property
    def commands(self) -> list[list[str]]:
        """The commands of its shell blocks, in order, as words."""
        lines = "".join(self.blocks(SHELL)).replace("\\\n", " ").splitlines()
        return [words for words in (shlex.split(line, comments=True) for line in lines) if words]

    @property
    def spans(self) -> list[str]:
        """What stands between backticks in its prose."""
        return re.findall(r"`([^`\n]+)`", self.prose)

    @property
    def links(self) -> list[str]:
        """Targets of its links and pictures inside this repository."""
        targets = re.findall(r"\]\(([^)\s]+)\)", self.text)
        return [target for target in targets if not target.startswith("https://")]

    @property
    def tables(self) -> list[list[list[str]]]:
        """Its Markdown tables: lines of cells, the heading first."""
        return tables(self.prose)


def tables(text: str) -> list[list[list[str]]]:
    found: list[list[list[str]]] = []
    previous = ""
    for line in text.splitlines():
        if line.startswith("|"):
            if not previous.startswith("|"):
                found.append([])
            cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            if not all(re.fullmatch(r":?-+:?", cell) for cell in cells):
                found[-1].append(cells)
        previous = line
    return found


README = Page(ROOT / "README.md")
PAGES = (README, Page(ROOT / "CONTRIBUTING.md"), *map(Page, sorted((ROOT / "docs").glob("*.md"))))
