"""Two people, or two login nodes, and one results folder: each run once."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

from repro.files import whole_lines
from repro.harness.plan.plan import plan
from repro.harness.runs.store import create_run
from tests.slurm.cluster import Cluster
from tests.slurm.conftest import WAIT, Lab
from tests.slurm.people import Person, people

# A file system whose locks end at a node, as far as Python sees it: `flock` excludes nobody, and
# every process says which node it is on.
LOCAL_LOCKS = """\
import fcntl, os, socket
fcntl.flock = lambda *_: None
node = os.environ.get("SLURMD_NODENAME") or os.environ["LOGIN_NODE"]
socket.gethostname = lambda: node
"""


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


def test_two_login_nodes_without_common_locks_send_each_run_once(lab: Lab) -> None:
    with closed(lab.cluster):
        words = ("submit", "F7:both,neither", "--scale", "smoke", "--cluster", lab.profile())
        logins = [on_node(lab, f"login{i}", "-m", "repro.cli", *words, "--yes") for i in (1, 2)]
        for login in logins:
            output, _ = login.communicate(timeout=WAIT)
            assert login.returncode == 0, output
        assert len(queue(lab.cluster)) == 4


def test_two_nodes_without_common_locks_train_a_run_once(lab: Lab) -> None:
    run = plan(["F7:both"], "smoke", 1, lab.results).runs[0]
    folder = create_run(lab.results / "runs", run.slug, run.config)
    worker = ("-m", "repro.harness.worker", str(folder.path))
    nodes = [on_node(lab, f"gpu{i}", *worker) for i in (1, 2)]
    told = [node.communicate(timeout=WAIT)[0] for node in nodes]
    assert sorted(node.returncode for node in nodes) == [0, 3], told
    events = [line["event"] for line in whole_lines(folder.path / "events.jsonl")[0]]
    assert events.count("started") == events.count("done") == 1
    steps = [line["step"] for line in folder.metrics() if line["kind"] == "step"]
    assert steps == sorted(set(steps))


def on_node(lab: Lab, name: str, *arguments: str) -> subprocess.Popen[str]:
    """Python as on a node whose locks no other node sees."""
    folder = lab.folder / "local_locks"
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(LOCAL_LOCKS)
    path = f"{folder}:{os.environ.get('PYTHONPATH', '')}"
    return subprocess.Popen(
        [sys.executable, *arguments],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env=lab.environment | {"PYTHONPATH": path, "LOGIN_NODE": name},
    )  # fmt: skip


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
