"""What came out of a step, read from what it printed; also from half of it."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

Outcome = tuple[str, dict[str, Any]]  # a line for the terminal, and more for the summary
Reader = Callable[[str], Outcome]

# As pytest -v tells each test: in one process, by the workers of xdist, and at the end.
_ALONE = re.compile(r"^(\S+::.+?) (PASSED|FAILED|SKIPPED|ERROR|XFAIL|XPASS)\b")
_WORKER = re.compile(r"^\[gw\d+\] \[ *\d+%\] (PASSED|FAILED|SKIPPED|ERROR|XFAIL|XPASS) (\S+::.+)")
_AT_THE_END = re.compile(r"^(FAILED|ERROR) (\S+::.+?)(?: - (.*))?$")


def of_pytest(output: str) -> Outcome:
    """Counts, and the reasons of what failed."""
    words: dict[str, str] = {}
    reasons: dict[str, str] = {}
    for line in output.splitlines():
        if found := _WORKER.match(line):
            words[found[2].strip()] = found[1]
        elif found := _AT_THE_END.match(line):
            words[found[2]] = found[1]
            reasons[found[2]] = found[3] or ""
        elif found := _ALONE.match(line):
            words[found[1]] = found[2]
    bad = {
        name: reasons.get(name, "") for name, word in words.items() if word in ("FAILED", "ERROR")
    }
    counts = Counter(word.lower() for word in words.values())
    line = ", ".join(f"{number} {word}" for word, number in counts.most_common())
    if bad:
        line += ": " + ", ".join(name.rpartition("::")[2] for name in bad)
    return line or last_line(output)[0], {"tests": dict(counts), "failed": bad}


def of_correctness(figures: Path) -> Reader:
    """And what the tests have measured, which they append to a file as they go."""

    def read(output: str) -> Outcome:
        line, more = of_pytest(output)
        return line, more | {"figures": json_lines(figures)}

    return read


def of_tables(output: str) -> Outcome:
    rows = [line for line in output.splitlines() if line.startswith("| ")]
    return (f"{len(rows) - 1} rows", {}) if rows else last_line(output)


def json_lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a file that may still be written, or missing."""
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def of_doctor(output: str) -> Outcome:
    """What the card is, and what is broken."""
    try:
        told = json.JSONDecoder().raw_decode(output, output.index("{\n"))[0]
    except ValueError:
        return last_line(output)
    findings = told["findings"]
    bad = [f["what"] for f in findings if f["level"] != "ok"]
    name = (told["gpu"] or {"name": "no GPU"})["name"]
    line = f"{name}: {findings[-1]['what']}"
    return line + (f"; not in order: {', '.join(bad)}" if bad else ""), {"doctor": told}


def last_line(output: str) -> Outcome:
    lines = [line for line in output.splitlines() if line.strip()]
    return (lines[-1][:200] if lines else "it printed nothing"), {}
