"""One experiment in the paper's own columns, its rows and claims: what `repro show` prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from repro.harness.experiments.experiment import Experiment, Row, Variant
from repro.terminal import print_table, print_text, tick


def details(experiment: Experiment, rows: Sequence[Row]) -> dict[str, Any]:
    """{id, title, kind, question, rows: [...], claims: [...]}: the fixed shape of `show --json`."""
    return {
        "id": experiment.id,
        "title": experiment.title,
        "kind": experiment.kind,
        "question": experiment.question,
        "variants": {name: dict(v.overrides) for name, v in experiment.variants.items()},
        "rows": [
            {
                "name": row.name,
                "label": row.label,
                "reported": dict(row.reported),
                "overrides": {**experiment.baseline, **row.overrides},
                "variants": {name: dict(v.overrides) for name, v in row.variants.items()},
                "trainable": row.trainable,
                "reported_only": row.reported_only,
            }
            for row in rows
        ],
        "claims": [
            {"id": claim.id, "statement": claim.statement, "kind": claim.kind}
            for claim in experiment.claims
        ],
    }


def print_details(experiment: Experiment, rows: Sequence[Row]) -> None:
    """The experiment in the paper's own columns, each row with what makes it differ."""
    print_text(f"{experiment.id}: {experiment.title} ({experiment.where})")
    print_text(experiment.question)
    print()
    columns = ["row", *(c.title for c in experiment.layout)]
    columns += [m.title + (f" ({m.unit})" if m.unit else "") for m in experiment.metrics]
    lines = []
    for row in rows:
        line = [row.name, *(tick(row.described.get(c.key, "")) for c in experiment.layout)]
        for metric in experiment.metrics:
            number = row.reported.get(metric.key)
            line.append("-" if number is None else f"{number:.{metric.decimals}f}")
        lines.append([*line, _difference(row)])
    print_table("", [*columns, "differs from the baseline in"], lines)
    for key, value in experiment.baseline.items():
        print_text(f"baseline: {key}={value}")
    for scale, overrides in experiment.at_scale.items():
        print_text(f"at {scale} scale: {_assignments(overrides)}")
    for whose, also in [("rows", experiment.also), *((row.name, row.also) for row in rows)]:
        for key, why in also.items():
            print_text(f"{whose} may also differ in {key}: {why}")
    for name, variant in experiment.variants.items():
        print_text(
            f"variant {name} ({variant.title}): {_layers(variant) or 'the rows as they are'}"
        )
    print()
    claims = [[claim.id, claim.kind, claim.statement] for claim in experiment.claims]
    print_table("", ["claim", "kind", "statement"], claims)
    print(f"\nrepro plan {experiment.id}   what would run, what is done\n{experiment.path}")


def _difference(row: Row) -> str:
    if row.reported_only:
        return f"reported only: {row.reported_only}"
    parts = [_layers(row) or "nothing"]
    parts += [f"{name}: {_layers(variant)}" for name, variant in row.variants.items()]
    if row.scales:
        parts.append(f"only at {', '.join(row.scales)}")
    return "; ".join(parts)


def _layers(item: Row | Variant) -> str:
    parts = [_assignments(item.overrides)] if item.overrides else []
    parts += [f"at {scale}: {_assignments(values)}" for scale, values in item.at_scale.items()]
    return "; ".join(parts)


def _assignments(overrides: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in overrides.items())
