"""The text that `repro new` begins a file with."""

from __future__ import annotations

import re
from pathlib import Path

from repro.harness.experiments.experiment import Experiment
from repro.harness.experiments.own import schema_line

TEMPLATE = """\
{schema}
# What is this about, in a sentence? Then what is expected, and why.
#
# Command  repro run {name} --scale laptop --seeds 3
id: {name}
kind: table
title: Teacher momentum with and without centering
where: own
question: Does a slower teacher make up for a target that is not centred?

# Settings of all rows, on top of the scale's: keys of repro/config/schema.py, or a choice of files
# in experiments/base (method, preset, model, data, views, crops).
baseline: {{method: dino}}

# Every combination is a row, called by its values (momentum0.9-centred): {name}:momentum0.9-centred
# An axis has a key with its values, or choices, each a name and the settings that it stands for.
# zip: [[a, b]] lets axes move together, exclude: [{{a: 1}}] takes rows out, include: [...] adds.
grid:
  axes:
    momentum: {{key: teacher.momentum, values: [0.9, 0.99]}}
    target:
      choices:
        centred: {{target.centering: true}}
        not_centred: {{target.centering: false}}

# Rows that are no combination, each by what it changes:
# rows:
#   - {{name: byol, label: BYOL, overrides: {{method: byol, crops: two}}, reported: {{}}}}

metrics:
  - {{key: knn, title: k-NN, unit: "%", decimals: 1}}
  - {{key: linear, title: Lin., unit: "%", decimals: 1}}
figure: {{kind: heatmap, down: momentum, across: target}}

# What the rows of a claim differ in on purpose; repro explain names whatever else tells them apart.
about: [teacher.momentum, target.centering]
# What you expect, before the runs; repro check {name} judges it. portability: M(echanism) at any
# scale, L(arge gap) with enough seeds, S(mall gap) at paper scale. All kinds: docs/own-grids.md.
claims:
  - id: C.{name}.1
    statement: "at momentum 0.99, training needs the centre"
    portability: M
    kind: greater
    better: {name}.momentum0.99-centred.knn
    worse: {name}.momentum0.99-not_centred.knn
"""


def scaffold(path: Path) -> str:
    """A small grid with a claim, to be replaced piece by piece."""
    return TEMPLATE.format(schema=schema_line(path), name=path.stem)


def copied(model: Experiment, path: Path) -> str:
    """Another experiment's file under a name of its own: its rows and claims are the copy's."""
    text = model.path.read_text(encoding="utf-8")
    name, old = path.stem, re.escape(model.id)
    text = re.sub(rf"^id: {old}$", f"id: {name}", text, flags=re.MULTILINE)
    text = re.sub(rf"(?<![\w.]){old}(?=[.:]\w)|(?<=C\.){old}(?=\.)", name, text)
    text = re.sub(rf"(?m)^(#.*\brepro \w+ ){old}\b", rf"\g<1>{name}", text)
    lines = text.split("\n")
    if "$schema=" in lines[0]:
        lines = lines[1:]
    return "\n".join([schema_line(path), f"# Begun from {model.id}.", *lines])
