"""The benchmark suite's JSON as a table, a roofline and growth curves: `make bench` ends with it.

    python -m analysis.benchmarks results/benchmarks/cpu.json

writes `cpu.md`, `cpu_roofline.png` and `cpu_growth.png` beside the JSON. Of lines, which the suite
writes as it goes (`cuda.jsonl`), it makes the JSON first, also where they were cut off.
"""

from __future__ import annotations

import argparse
import json
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, StrMethodFormatter

from analysis.figures.style import GREY, STYLE
from repro.errors import UserError

COLUMNS = ("what", "ours", "baseline", "times faster", "limit", "of the limit", "also")
SHARE = "model FLOPs, of the matrix rate"  # a column where something was measured so
Entry = dict[str, Any]


def load(path: Path) -> dict[str, Any]:
    """Raises UserError: no such file, or neither the suite's JSON nor its lines."""
    content: Any = None
    with suppress(OSError, ValueError):
        text = path.read_text()
        content = read_lines(text) if path.suffix == ".jsonl" else json.loads(text)
    entries = content.get("benchmarks") if isinstance(content, dict) else None
    named = isinstance(entries, list) and all(
        isinstance(entry, dict) and isinstance(entry.get("name"), str) for entry in entries
    )
    if not named or not isinstance(content.get("hardware"), dict):
        raise UserError(f"{path} is not the benchmark suite's JSON; make bench writes it")
    return cast(dict[str, Any], content)


def read_lines(text: str) -> dict[str, Any]:
    """The suite's JSON from its lines: the hardware, then results, of which the last of a name
    counts. A line that was cut off is left out.
    """
    found: dict[str, Entry] = {}
    head: Entry = {}
    for line in text.splitlines():
        with suppress(ValueError, TypeError, KeyError):
            entry = json.loads(line)
            if "hardware" in entry:
                head = entry
            else:
                found[entry["name"]] = entry
    return head | {"benchmarks": list(found.values())}


def machine(content: dict[str, Any]) -> Entry | None:
    """The entry that holds the hardware's ceilings; None where it was not reached."""
    return next((b for b in content["benchmarks"] if "bandwidth" in b), None)


def page(content: dict[str, Any]) -> str:
    """What is told of a suite: the hardware, the table, and what is missing from it."""
    missing = [
        f"- {b.get('title') or b['name']}: {b['error']}"
        for b in content["benchmarks"]
        if "error" in b
    ]
    parts = [heading(content), table(content)]
    if missing:
        parts.append("Not measured:\n\n" + "\n".join(missing))
    return "\n\n".join(parts) + "\n"


def table(content: dict[str, Any]) -> str:
    """One line a comparison, as Markdown."""
    entries = [b for b in content["benchmarks"] if "seconds" in b]
    lines = pd.DataFrame([_line(b) for b in entries], columns=COLUMNS)
    shares = [_model_share(b) for b in entries]
    if any(shares):
        lines.insert(COLUMNS.index("limit"), SHARE, shares)
    return str(lines.to_markdown(index=False, disable_numparse=True))


def _model_share(entry: Entry) -> str:
    """Rates of the same operations, those of the model, whoever does them."""
    if "model_share" not in entry:
        return ""
    ours, other = entry["model_share"], entry.get("baseline_model_share")
    return f"{ours:.0%}" + ("" if other is None else f", baseline {other:.0%}")


def _line(entry: Entry) -> tuple[str, ...]:
    seconds = entry["seconds"]
    limit, share = entry.get("limit", ""), entry.get("of_limit")
    if "bandwidth_seconds" in entry:
        limit, share = "memory bandwidth", entry["bandwidth_seconds"] / seconds["ours"]
    speedup = entry.get("speedup")
    return (
        entry["title"],
        _time(seconds["ours"]),
        entry.get("baseline", ""),
        "" if speedup is None else f"{speedup:.2f}",
        limit,
        "" if share is None else f"{share:.0%}",
        _also(entry),
    )


def _also(entry: Entry) -> str:
    facts = []
    for key, pattern in (
        ("images_per_second", "{:.3g} images/s"),
        ("images_per_second_and_core", "{:.3g} images/s and core"),
        ("share_of_matrix_rate", "{:.0%} of the rate of large products"),
        ("busy_share", "the card busy for {:.0%}"),
        ("kernels", "{:,.0f} kernels"),
        ("launches", "{:,.0f} launches"),
        ("synchronisations", "{:.3g} synchronisations"),
        ("views_share", "views: {:.0%} of it"),
        ("share_of_step", "{:.1%} of a step"),
        ("megabytes", "{:.0f} MB"),
        ("gigabytes_beside_features", "{:.2f} GB beside the features"),
        ("runs", "{:,} runs"),
        ("sbatch_calls", "{} sbatch calls"),
    ):
        if entry.get(key) is not None:
            facts.append(pattern.format(entry[key]))
    if memory := entry.get("peak_gigabytes"):
        other = f", baseline {memory['baseline']:.1f}" if "baseline" in memory else ""
        facts.append(f"peak {memory['ours']:.1f} GB{other}")
    return ", ".join(facts)


def _time(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e6:.3g} us"


def heading(content: dict[str, Any]) -> str:
    """What the figures come from, in a sentence or two."""
    hardware, ceilings = content["hardware"], machine(content)
    driver = f"driver {hardware['driver']}, " if hardware.get("driver") else ""
    known = (
        f"{hardware['gpu'] or hardware['cpu']}, {hardware['cores']} cores, {driver}"
        f"torch {hardware['torch']}."
    )
    if ceilings is None:
        return known
    rates = ", ".join(f"{name} {rate / 1e9:,.0f}" for name, rate in ceilings["rates"].items())
    copied = f"copying memory: {ceilings['bandwidth'] / 1e9:.0f} GB/s."
    return f"{known} Large matrix products, GFLOP/s: {rates}; {copied}"


def draw_roofline(content: dict[str, Any], ceilings: Entry) -> Figure:
    """Operations a second against operations a byte: ours, its baseline, and the roof."""
    figure = Figure(figsize=(7.2, 4.2), layout="constrained")
    axes = figure.subplots()
    entries = [b for b in content["benchmarks"] if b.get("operations") and b.get("bytes")]
    x = np.geomspace(1, 1e4, 200)
    for name, rate in ceilings["rates"].items():
        roof = np.minimum(rate, ceilings["bandwidth"] * x) / 1e9
        axes.plot(x, roof, color=GREY, linewidth=1, linestyle="-" if "16" in name else "--")
        axes.annotate(f"large products, {name}", (x[-1], rate / 1e9), color=GREY, fontsize=7.5,
                      ha="right", va="bottom")  # fmt: skip
    for entry, colour in zip(entries, sns.color_palette("colorblind", len(entries)), strict=True):
        intensity = entry["operations"] / entry["bytes"]
        rates = {k: entry["operations"] / s / 1e9 for k, s in entry["seconds"].items()}
        axes.plot(intensity, rates["ours"], "o", color=colour, label=entry["title"])
        if "baseline" in rates:
            axes.plot(intensity, rates["baseline"], "o", color=colour, fillstyle="none")
        if "limit" in rates:
            axes.plot(intensity, rates["limit"], "_", color=colour, markersize=12)
    axes.set(xscale="log", yscale="log", ylabel="GFLOP/s")
    axes.set_xlabel("operations a byte (operands and results, once each)")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5),
                title="filled: ours, hollow: baseline,\nbar: bare matrix products")  # fmt: skip
    sns.despine(figure)
    return figure


def draw_growth(content: dict[str, Any]) -> Figure:
    """Seconds against work, both in logarithms, with the slope of the upper half."""
    entries = [b for b in content["benchmarks"] if "growth" in b]
    figure = Figure(figsize=(7.2, 4.4), layout="constrained")
    panels = figure.subplots(2, -(-len(entries) // 2), squeeze=False).ravel()
    for entry, axes in zip(entries, panels, strict=False):
        _draw_growth(axes, entry)
    for unused in panels[len(entries) :]:
        unused.set_visible(False)
    sns.despine(figure)
    return figure


def _draw_growth(axes: Axes, entry: Entry) -> None:
    milliseconds = [1e3 * s for s in entry["growth"]]
    axes.plot(entry["at"], milliseconds, "o-", color=sns.color_palette("colorblind")[0])
    for x, y in zip(entry["at"], milliseconds, strict=True):
        axes.annotate(f"{y:.3g}", (x, y), (0, 5), textcoords="offset points", fontsize=6.5,
                      ha="center")  # fmt: skip
    axes.set_xscale("symlog" if 0 in entry["at"] else "log", base=2)
    axes.set(yscale="log", xlabel=entry["axis"], xticks=entry["at"], xticklabels=entry["at"])
    axes.set_ylim(min(milliseconds) / 2, max(2 * max(milliseconds), 10 * min(milliseconds)))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(axis="x", labelsize=7, rotation=30 if max(entry["at"]) > 1000 else 0)
    what = entry["title"].split(" against ")[0]
    axes.set_title(f"{what}, ms: slope {entry['slope']:.2f}", fontsize=8.5)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m analysis.benchmarks", description=__doc__)
    parser.add_argument("json", type=Path, help="what make bench or make bench-gpu wrote")
    parser.add_argument("--into", type=Path, help="another folder than that of the JSON")
    arguments = parser.parse_args()
    path = arguments.json
    try:
        content = load(path)
    except UserError as error:
        parser.error(str(error))
    if arguments.into:
        arguments.into.mkdir(parents=True, exist_ok=True)
        path = arguments.into / path.name
    if path.suffix == ".jsonl":
        path.with_suffix(".json").write_text(json.dumps(content, indent=4) + "\n")
    told, ceilings = page(content), machine(content)
    path.with_suffix(".md").write_text(told)
    with mpl.rc_context(STYLE):
        if ceilings is not None:
            roofline = path.with_name(f"{path.stem}_roofline.png")
            draw_roofline(content, ceilings).savefig(roofline, bbox_inches="tight")
        if any("growth" in b for b in content["benchmarks"]):
            draw_growth(content).savefig(path.with_name(f"{path.stem}_growth.png"))
    print(told, end="")


if __name__ == "__main__":
    main()
