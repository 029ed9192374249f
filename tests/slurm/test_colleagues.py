"""Two people, or two login nodes, and one results folder: each run once."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

import pytest

from repro.files import whole_lines
from repro.harness.plan.plan import plan
from repro.harness.runs.store import create_run
from tests.slurm.apart import Apart, can_mount
from tests.slurm.cluster import NODES, Cluster
from tests.slurm.conftest import WAIT, Lab
from tests.slurm.people import Person, people

WAYS = ["emulated", "mounted"]


@pytest.fixture(params=WAYS)
def apart(request: pytest.FixtureRequest, lab: Lab) -> Apart:
    if request.param == "mounted" and not can_mount():
        pytest.skip("mounts with locks of their own take bindfs and /dev/fuse")
    return Apart(lab, mounted=request.param == "mounted")


def test_two_accounts_train_each_run_once_also_where_the_queue_is_private(cluster: Cluster) -> None:
    with people(cluster) as (ann, bob):
        profile = ann.profile()
        words = ("--scale", "smoke", "--cluster", profile, "--yes")
        with closed(cluster):
            ann.repro("submit", "F7:both,neither", *words)
            bob.repro("submit", "F7:both,neither", *words)
            assert len(queue(cluster)) == 4
            with private_jobs(cluster):
                assert said(bob, "squeue", "--noheader") == ""
                assert f"not visible from here (sent by {ann.name} on lab)" in bob.repro("status")
                bob.repro("submit", "F7:both,neither", *words)
                assert len(queue(cluster)) == 4
                bob.repro("submit", "F7:both,neither,centering", *words)
                assert len(queue(cluster)) == 6
            # What one gave up another may take over, in the same folder.
            ann.repro("cancel", "F7:neither", "--yes")
            bob.repro("retry", "F7:neither", "--yes")
            # Her evaluation of it goes when the partition is up again: SLURM looks no sooner.
            assert [task.split()[0] for task in queue(cluster)].count(bob.name) == 4
        ann.repro("status", "--watch", "--every", "2")
        states = {(run["state"], run["evaluation"]) for run in bob.status()}
        assert states == {("done", "done")}, ann.told()
        assert [folder.read_run().attempts for folder in ann.runs] == [1, 1, 1]
        for folder in [*ann.runs, *Path(ann.results / "submissions").iterdir()]:
            path = folder if isinstance(folder, Path) else folder.path
            assert oct(path.stat().st_mode & 0o7777) == "0o2775" or path.is_file()


def test_a_lock_of_one_mount_is_not_seen_in_the_other(lab: Lab) -> None:
    """What the tests below rest on, where they mount."""
    if not can_mount():
        pytest.skip("mounts with locks of their own take bindfs and /dev/fuse")
    lab.results.mkdir()
    file, apart = str(lab.results / "lock"), Apart(lab, mounted=True)
    holder = apart.start("gpu1", "flock", file, "sh", "-c", f"touch {file}ed; sleep 5")
    lab.wait(Path(f"{file}ed").exists, "the holder")
    other = apart.start("gpu2", "flock", "--nonblock", file, "hostname")
    assert other.communicate(timeout=WAIT)[0] == "gpu2\n"
    assert other.returncode == 0
    assert holder.poll() is None
    assert holder.wait(WAIT) == 0


def test_the_doctor_finds_out_that_a_nodes_lock_does_not_reach_this_one(lab: Lab) -> None:
    if not can_mount():
        pytest.skip("mounts with locks of their own take bindfs and /dev/fuse")
    words = ("-m", "repro.cli", "doctor", "--json", "--cluster", lab.profile())
    output, _ = Apart(lab, mounted=True).python("login1", *words).communicate(timeout=WAIT)
    findings = json.loads(output[output.index("{") :])["findings"]
    (locks,) = [one for one in findings if one["what"].startswith("file locks from")]
    assert "lease" in locks["meaning"], locks


def test_two_login_nodes_without_common_locks_send_each_run_once(lab: Lab, apart: Apart) -> None:
    with closed(lab.cluster):
        words = ("submit", "F7:both,neither", "--scale", "smoke", "--cluster", lab.profile())
        logins = [apart.python(f"login{i}", "-m", "repro.cli", *words, "--yes") for i in (1, 2)]
        for login in logins:
            output, _ = login.communicate(timeout=WAIT)
            assert login.returncode == 0, output
        assert len(queue(lab.cluster)) == 4


def test_two_nodes_without_common_locks_train_a_run_once(lab: Lab, apart: Apart) -> None:
    run = plan(["F7:both"], "smoke", 1, lab.results).runs[0]
    folder = create_run(lab.results / "runs", run.slug, run.config)
    worker = ("-m", "repro.harness.worker", str(folder.path))
    there = {
        name: ("srun", f"--nodelist={name}", "--ntasks=1", "--mem=2000M", "--quiet")
        for name in NODES
    }
    nodes = [apart.python(name, *worker, inside=srun) for name, srun in there.items()]
    told = [node.communicate(timeout=WAIT)[0] for node in nodes]
    assert sorted(node.returncode for node in nodes) == [0, 3], told
    events = [line["event"] for line in whole_lines(folder.path / "events.jsonl")[0]]
    assert events.count("started") == events.count("done") == 1
    steps = [line["step"] for line in folder.metrics() if line["kind"] == "step"]
    assert steps == sorted(set(steps))


def queue(cluster: Cluster) -> list[str]:
    """All tasks, by their owner, as root sees them."""
    return cluster.run("squeue", "--noheader", "--array", "--format=%u %j").splitlines()


def said(person: Person, *command: str) -> str:
    output, _ = person.run(*command).communicate(timeout=60)
    return output


@contextmanager
def configured(cluster: Cluster, change: Callable[[str], str]) -> Iterator[None]:
    file = cluster.folder / "slurm.conf"
    before = file.read_text()
    file.write_text(change(before))
    cluster.run("scontrol", "reconfigure")
    try:
        yield
    finally:
        file.write_text(before)
        cluster.run("scontrol", "reconfigure")


def closed(cluster: Cluster) -> AbstractContextManager[None]:
    """Jobs wait; a reconfiguration would undo what `scontrol update` says of a partition."""
    down = partial(re.sub, r"(?m)^(PartitionName=.*)State=UP", r"\1State=DOWN")
    return configured(cluster, down)


def private_jobs(cluster: Cluster) -> AbstractContextManager[None]:
    """A user sees no other user's jobs."""
    return configured(cluster, lambda text: f"{text}PrivateData=jobs\n")
