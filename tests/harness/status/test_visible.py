"""What is not in the queue's answer: gone, or only not visible from here."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import pytest

from repro.cli.runs.cancel import cancel
from repro.files import read_object, with_digest, write_json
from repro.harness.slurm.submissions import me
from repro.harness.status.overview import View, overview
from tests.harness.scripted import Scripted, scripted
from tests.harness.sent import Sent, ended, queued, sent

__all__ = ["scripted", "sent"]

LAB = "ClusterName = lab\n"
PRIVATE = LAB + "PrivateData = usage,jobs\n"
UNSEEN = "not visible from here (sent by ann on lab)"
BY_CLUSTER = """#!/bin/bash
echo "$*" >> {folder}/{name}.calls
case "$*" in
*--clusters=annex*) cat {folder}/{name}.annex; exit $(cat {folder}/{name}.annex.code) ;;
*) cat {folder}/{name}.answer ;;
esac
"""

Submit = Callable[..., None]


@pytest.fixture
def a_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """SLURM hides nothing from root."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)


@pytest.fixture
def by(sent: Sent) -> Submit:
    def change(user: str, slurm_cluster: str = "lab") -> None:
        sent.submission.user, sent.submission.slurm_cluster = user, slurm_cluster
        sent.submission.save()

    return change


def annex(scripted: Scripted, command: str, text: str = "", code: int = 0) -> None:
    """What the other cluster's command answers."""
    folder = scripted.folder
    (folder / f"{command}.annex").write_text(text)
    (folder / f"{command}.annex.code").write_text(str(code))
    (folder / f"{command}.answer").touch()
    (folder / command).write_text(BY_CLUSTER.format(folder=folder, name=command))


def facts(view: View) -> tuple[str, bool]:
    return view.state, view.sent


@pytest.mark.parametrize(
    ("user", "config", "state", "detail"),
    [
        ("ann", PRIVATE, "queued", UNSEEN),
        ("ann", LAB + "PrivateData = all\n", "queued", UNSEEN),
        ("ann", LAB + "PrivateData = none\n", "lost", ""),
        (me(), PRIVATE, "lost", ""),
    ],
)
def test_a_colleagues_job_that_is_not_listed_may_be_private(
    scripted: Scripted, sent: Sent, by: Submit, a_user: None,
    user: str, config: str, state: str, detail: str,
) -> None:  # fmt: skip
    by(user)
    scripted.answer("scontrol", config)
    assert facts(sent.view()) == (state, state == "queued")
    assert sent.view().detail == detail
    assert ("1 run not visible from here" in sent.notes()) == (state == "queued")


def test_root_sees_what_is_private(
    scripted: Scripted, sent: Sent, by: Submit, monkeypatch: pytest.MonkeyPatch
) -> None:
    by("ann")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    scripted.answer("scontrol", PRIVATE)
    assert sent.view().state == "lost"


def test_what_ended_by_its_own_word_or_the_accountings_is_not_hidden(
    scripted: Scripted, sent: Sent, by: Submit, a_user: None
) -> None:
    by("ann")
    scripted.answer("scontrol", PRIVATE)
    scripted.answer("sacct", ended("PENDING"))
    assert sent.view().detail == UNSEEN
    scripted.answer("sacct", ended("TIMEOUT"))
    assert facts(sent.view()) == ("lost", False)
    assert "--allusers" in scripted.calls("sacct")[0]
    sent.folder.update_run(state="cancelled", ended=time.time())
    assert facts(sent.view()) == ("cancelled", False)


def test_a_hidden_run_whose_heart_stopped_waits_until_somebody_gives_it_up(
    scripted: Scripted, sent: Sent, by: Submit, a_user: None
) -> None:
    by("ann")
    scripted.answer("scontrol", PRIVATE)
    sent.running_elsewhere(heartbeat_ago=600)
    view = sent.view()
    assert facts(view) == ("queued", True)
    assert view.detail == f"{UNSEEN}; no sign of life for 10 min"
    cancel([sent.folder], {sent.folder.id: view})
    assert facts(sent.view()) == ("lost", False)  # which repro retry sends


def test_an_evaluation_that_is_not_visible_is_waited_for(
    scripted: Scripted, sent: Sent, by: Submit, a_user: None
) -> None:
    by("ann")
    scripted.answer("scontrol", PRIVATE)
    sent.folder.finish({"metrics": {}})
    (sent.folder.path / "checkpoints" / "last.pt").touch()
    view = sent.view()
    assert (view.evaluation, view.sent) == ("waiting", True)
    assert view.detail == f"its evaluation is {UNSEEN}"


def test_another_cluster_is_asked_by_its_name_and_this_one_without(
    scripted: Scripted, sent: Sent, by: Submit
) -> None:
    by(me(), "annex")
    scripted.answer("scontrol", LAB)
    annex(scripted, "squeue", "CLUSTER: annex\n" + queued("PENDING", "Priority"))
    view = sent.view()
    assert (facts(view), view.detail) == (("queued", True), "job 101: others go first")
    cancel([sent.folder], {sent.folder.id: view})
    assert scripted.calls("scancel") == ["--clusters=annex 101"]
    sent.folder.clear_cancel()
    annex(scripted, "squeue")
    annex(scripted, "sacct", ended("NODE_FAIL"))
    assert facts(sent.view()) == ("lost", False)
    scripted.answer("scontrol", "ClusterName = annex\n")
    sent.view()
    assert "--clusters" not in scripted.calls("squeue")[-1]


@pytest.mark.parametrize(("user", "code"), [(me(), 1), ("ann", 1), ("ann", 0)])
def test_a_cluster_that_does_not_answer_or_hides_others_jobs_takes_no_run_away(
    scripted: Scripted, sent: Sent, by: Submit, user: str, code: int
) -> None:
    by(user, "annex")
    scripted.answer("scontrol", LAB)
    annex(scripted, "squeue", code=code)
    annex(scripted, "sacct", code=code)
    view = sent.view()
    assert facts(view) == ("queued", True)
    assert view.detail == f"not visible from here (sent by {user} on annex)"


def test_a_shells_wishes_about_answers_change_none(
    scripted: Scripted, sent: Sent, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = scripted.folder / "squeue"
    script.write_text(
        "#!/bin/bash\n"
        "env | grep -qE '^(SQUEUE_|SACCT_|SLURM_CLUSTERS=|SLURM_TIME_FORMAT=)' && exit\n"
        f"[[ \"$*\" == *--all* && $SLURM_BITSTR_LEN == 0 ]] && echo '{queued('PENDING').strip()}'\n"
    )
    for name in ("SQUEUE_STATES", "SQUEUE_PARTITION", "SACCT_FORMAT", "SLURM_CLUSTERS",
                 "SLURM_TIME_FORMAT", "SLURM_BITSTR_LEN"):  # fmt: skip
        monkeypatch.setenv(name, "64")
    assert facts(sent.view()) == ("queued", True)


def test_only_every_second_task_of_an_array_with_a_step_ended(
    scripted: Scripted, sent: Sent
) -> None:
    sent.submission.arrays[0].tasks = [["0" * 10], [sent.folder.id]]
    sent.submission.save()
    scripted.answer("sacct", ended("CANCELLED by 0", job="101_[0-2:2%4]"))
    view = overview([sent.folder], sent.results).views[sent.folder.id]
    assert view.state == "lost"  # task 1 is not among them


def test_a_submission_of_a_later_version_is_read_for_what_is_known(
    scripted: Scripted, sent: Sent
) -> None:
    file = sent.submission.folder / "submission.json"
    later = (read_object(file) or {}) | {"weather": "fair"}
    write_json(file, with_digest(later))
    scripted.answer("squeue", queued("PENDING"))
    assert facts(sent.view()) == ("queued", True)


def test_slurms_words_for_nothing_are_not_repeated(scripted: Scripted, sent: Sent) -> None:
    scripted.answer("squeue", queued("PENDING", "None"))
    assert sent.view().detail == "job 101: SLURM has not looked at it yet"
    scripted.answer("squeue")
    scripted.answer("sacct", ended("CANCELLED by 0").replace("|n7|", "|None assigned|"))
    cause = sent.view().cause
    assert cause is not None
    assert (cause.line, cause.host) == ("SLURM: CANCELLED on no node", "")
