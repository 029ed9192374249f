"""How evaluations of finished runs are, in the queue and out of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from repro.files import write_json
from repro.harness.slurm.submissions import TRAIN, Array
from tests.conftest import MakeConfig
from tests.harness.scripted import Scripted, scripted
from tests.harness.sent import Sent, ended, queued, sent

__all__ = ["scripted", "sent"]


@pytest.mark.parametrize(
    ("queue", "failure", "expected"),
    [
        (queued("PENDING", "Dependency", name="repro-s1-1"), None, "waiting"),
        (queued("RUNNING", name="repro-s1-1"), None, "running"),
        ("", None, "missing"),
        ("", {"kind": "code", "line": "boom", "step": 8, "host": "n"}, "failed"),
    ],
)
def test_the_evaluation_of_a_finished_run_is_followed_too(
    scripted: Scripted, sent: Sent, queue: str, failure: dict[str, Any] | None, expected: str
) -> None:
    sent.folder.finish({"metrics": {}})
    (sent.folder.path / "checkpoints" / "last.pt").touch()
    if failure:
        (sent.folder.path / "evaluations").mkdir()
        write_json(sent.folder.path / "evaluations" / "knn.failure.json", failure)
    scripted.answer("squeue", queue)
    view = sent.view()
    assert (view.state, view.evaluation) == ("done", expected)


OUT_OF_MEMORY = "slurmstepd: error: Detected 1 oom_kill event in StepId=102.0.\n"


@pytest.mark.parametrize(
    ("answer", "log", "expected", "kind"),
    [
        (("OUT_OF_MEMORY", "0:125"), "", "failed", "out_of_memory"),
        (("TIMEOUT", "0:0"), "", "failed", "timeout"),
        (("FAILED", "0:9"), "evaluating\n", "failed", "killed"),
        (None, OUT_OF_MEMORY, "failed", "out_of_memory"),
        (None, "evaluating\n", "failed", "unknown"),
        (("CANCELLED by 0", "0:0"), "", "missing", ""),  # before it began
        (None, "", "missing", ""),
    ],
)
def test_an_evaluation_that_died_without_a_word_has_failed_with_its_cause(
    scripted: Scripted,
    sent: Sent,
    answer: tuple[str, str] | None,
    log: str,
    expected: str,
    kind: str,
) -> None:
    sent.folder.finish({"metrics": {}})
    (sent.folder.path / "checkpoints" / "last.pt").touch()
    if answer:
        scripted.answer("sacct", ended(*answer, job="102", name="repro-s1-1"))
    if log:
        sent.write_log(log, job="102")
    view = sent.view()
    assert (view.state, view.evaluation, view.sent) == ("done", expected, False)
    assert (view.evaluation_cause.kind if view.evaluation_cause else "") == kind
    assert len(scripted.calls("sacct")) == 1


def test_an_evaluation_is_awaited_while_the_queue_cannot_tell(
    scripted: Scripted, tmp_path: Path, smoke: MakeConfig
) -> None:
    young, old = Sent(tmp_path / "young", smoke(), sent_ago=5), Sent(tmp_path / "old", smoke())
    for one in (young, old):
        one.folder.finish({"metrics": {}})
        (one.folder.path / "checkpoints" / "last.pt").touch()
    assert (young.view().evaluation, young.view().sent) == ("waiting", True)
    scripted.answer("squeue", code=1)
    assert (old.view().evaluation, old.view().sent) == ("waiting", True)


def test_an_evaluation_that_went_with_an_earlier_training_is_missing(
    scripted: Scripted, sent: Sent
) -> None:
    """The training was sent again, and its evaluation was refused for want of room."""
    again = replace(sent.submission, folder=sent.submission.folder.with_name("s2"))
    again.folder.mkdir()
    again.created += 60
    again.arrays = [Array("repro-s2-0", TRAIN, [[sent.folder.id]], {}, "201")]
    again.save()
    sent.folder.finish({"metrics": {}})
    (sent.folder.path / "checkpoints" / "last.pt").touch()
    sent.write_log("of another time\n", job="102")
    assert sent.view().evaluation == "missing"
    assert scripted.calls("sacct") == []


def test_an_evaluation_whose_checkpoint_is_gone_is_not_missing(
    scripted: Scripted, sent: Sent
) -> None:
    sent.folder.finish({"metrics": {}})
    assert sent.view().evaluation == ""
