"""What a k-NN evaluation keeps of each image and class."""

from __future__ import annotations

import base64

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from repro.harness.evaluation.classification import answers
from repro.harness.evaluation.stage import evaluate, evaluation_file
from repro.harness.runs.evaluations import read_evaluation
from repro.harness.runs.records import as_line, evaluations_of
from repro.harness.runs.store import RunFolder


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 4)), min_size=1, max_size=40))
def test_bits_and_classes_are_those_of_the_images(images: list[tuple[bool, int]]) -> None:
    right, labels = zip(*images, strict=True)
    kept = answers(torch.tensor(right), torch.tensor(labels), classes=5)
    bits = "".join(f"{byte:08b}" for byte in base64.b64decode(kept["right"]))
    assert bits == "".join("01"[one] for one in right).ljust(len(bits), "0")
    assert len(bits) - len(right) < 8
    for label, share in enumerate(kept["classes"]):
        own = [one for one, of in images if of == label]
        assert share == (pytest.approx(100 * sum(own) / len(own)) if own else None)


def test_a_runs_k_nn_keeps_its_answers_for_its_record(trained: RunFolder) -> None:
    evaluation_file(trained, "knn").unlink(missing_ok=True)
    assert evaluate(trained)
    made = read_evaluation(evaluation_file(trained, "knn"), trained.id)
    assert made is not None
    (line,) = (as_line(one) for one in evaluations_of(trained) if one.name == "knn")
    assert line["answers"] == made.details["answers"]
    result = trained.result()
    assert result is not None
    counts = result["counts"]
    bits = int.from_bytes(base64.b64decode(line["answers"]["right"]))
    share = 100 * bits.bit_count() / counts["test_images"]
    assert share == result["metrics"]["knn"]  # the training's own, with as many neighbours
    assert len(line["answers"]["classes"]) == counts["classes"]
