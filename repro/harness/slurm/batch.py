"""Runs -> SLURM jobs, through submitit: arrays of trainings, and of their evaluations behind them.

Runs with the same requirements share an array, split where the cluster's MaxArraySize or its limit
on submitted jobs says so. Task i of an evaluation array waits for task i of its training array
alone (`aftercorr`), so that a failed row holds back only its own evaluations. submitit writes the
script and the pickle, which holds the name of a function and one path; results never travel in
pickles.
"""

from __future__ import annotations

import os
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import submitit
from submitit.core.utils import FailedJobError, FailedSubmissionError

from repro.errors import UserError
from repro.files import with_digest, write_json
from repro.harness.evaluation.requests import ask
from repro.harness.experiments.clusters import SlurmCluster
from repro.harness.runs.planned import PlannedRun
from repro.harness.runs.store import RunFolder, add_tags, create_runs, refresh_resources
from repro.harness.slurm import client as slurm
from repro.harness.slurm import job
from repro.harness.slurm.arrays import Part, Tasks, divided
from repro.harness.slurm.requirements import (
    Increase,
    Requirements,
    parameters_of,
    requirements_of,
)
from repro.harness.slurm.snapshot import snapshot
from repro.harness.slurm.submissions import EVALUATE, TRAIN, Array, Submission, new_submission
from repro.harness.slurm.visible import Destination, destination

DEFAULT_ARRAY = 1000  # tasks, where the cluster does not tell its MaxArraySize (by default 1001)
JOBS = {TRAIN: job.train, EVALUATE: job.evaluate}
REFUSALS = ("limit", "temporarily unable", "try again")  # of sbatch: it would take fewer, or later
UNANSWERED = ("timed out", "unable to contact", "communication", "zero bytes")  # taken, maybe
FINAL = "requested time limit is invalid"  # that it will never take
# Variables of a user's shell by which sbatch overrides a script, and the options they stand for.
WISHES = {
    **{
        f"SBATCH_{option.upper()}": option
        for option in (
            "account", "partition", "qos", "reservation", "constraint", "exclusive", "wckey",
        )
    },
    **{f"SBATCH_MEM_PER_{unit}": "mem" for unit in ("NODE", "CPU", "GPU")},
}  # fmt: skip
# Where the processes of some other run meet: of a shell that torchrun opened, or that tried it out.
OF_RANKS = ("MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE", "RANK", "LOCAL_RANK")
KEPT = ("SLURM_CONF", "SLURM_CLUSTERS", "SLURM_TIME_FORMAT")  # settings, not traces of a job


@dataclass(frozen=True)
class Sent:
    """What became of a submission.

    Attributes:
        refused: ids of runs that SLURM did not take, and why.
        unevaluated: ids of runs whose trainings it took, but not their evaluations.
    """

    submission: Submission
    refused: tuple[str, ...]
    why: str
    unevaluated: tuple[str, ...] = ()
    why_unevaluated: str = ""


def send(
    train: Sequence[PlannedRun],
    evaluate: Sequence[PlannedRun],
    cluster: SlurmCluster,
    results: Path,
    had: Mapping[str, Mapping[str, Mapping[str, Any]]],
    more: Increase,
) -> Sent:
    """Submit training jobs with their evaluations, and evaluations of runs already trained.

    The caller holds the lock of all submissions and has made sure that nobody else has these runs.

    Args:
        had: by stage and run id, what its last job asked for, below which a retry does not go.

    Raises:
        UserError: no SLURM here, or SLURM refuses for a reason that waiting does not mend.
    """
    check_sbatch()
    folders = _folders([*train, *evaluate], cluster, results)
    to = destination(cluster)
    submission = new_submission(results, cluster.name, snapshot(results), to.name)
    groups = [
        (stage, required, _tasks(group, cluster, required))
        for stage, runs in ((TRAIN, train), (EVALUATE, evaluate))
        for required, group in _grouped(runs, cluster, had[stage], more, stage).items()
    ]
    sender = _Sender(cluster, submission, folders, _room(cluster))
    for part in divided(groups, _array_size(cluster, to), cluster.parallel):
        sender.send(part)
    submission.complete = True
    submission.save()
    return Sent(
        submission, tuple(sender.refused), sender.why, tuple(sender.unevaluated),
        sender.why_unevaluated,
    )  # fmt: skip


@dataclass
class _Sender:
    """One submission on its way: what SLURM has taken of it, and what it refused."""

    cluster: SlurmCluster
    submission: Submission
    folders: Mapping[str, RunFolder]
    room: int  # jobs that the profile still lets me have in the queue
    refused: list[str] = field(default_factory=list)  # ids of runs
    why: str = ""
    unevaluated: list[str] = field(default_factory=list)  # likewise
    why_unevaluated: str = ""
    # By lane and stage, the array that the next one waits for.
    last: dict[tuple[int | None, str], str] = field(default_factory=dict)
    full: set[tuple[str, Requirements]] = field(default_factory=set)  # of these no more is taken

    def send(self, part: Part) -> None:
        """An array; where limits forbid it, of as many of its tasks as they allow."""
        jobs = 2 if part.stage == TRAIN else 1  # a training brings its evaluation
        kind = (part.stage, part.required)
        number = 0 if kind in self.full else min(len(part.tasks), self.room // jobs)
        sent = self._send_some(replace(part, tasks=part.tasks[:number]))
        self.room -= sent * jobs
        if sent < len(part.tasks):
            self.full.add(kind)
            limit = f"max_jobs: {self.cluster.max_jobs} of the profile {self.cluster.name}"
            self.why = self.why or limit
            self.refused += [run for task in part.tasks[sent:] for run in task]

    def _send_some(self, part: Part) -> int:
        """How many of the tasks SLURM took: all, or as many as its limits allow."""
        tasks = part.tasks
        while tasks:
            array = Array(self._next_name(), part.stage, tasks, asdict(part.required))
            at_a_time = min(part.at_a_time, len(tasks))
            refusal = self._send_array(array, part.required, at_a_time, part.lane)
            if not refusal:
                if part.stage == TRAIN:
                    self._send_evaluations(array, part, at_a_time)
                return len(tasks)
            self.why = refusal
            tasks = tasks[: len(tasks) // 2]
        return 0

    def _send_evaluations(self, trained: Array, part: Part, at_a_time: int) -> None:
        """Those behind an array of trainings; where SLURM refuses, they are offered later."""
        required = replace(part.required, ranks=1, minutes=self.cluster.evaluation_minutes)
        array = Array(self._next_name(), EVALUATE, trained.tasks, asdict(required))
        kind = "aftercorr" if len(trained.tasks) > 1 else "afterok"
        behind = f"{kind}:{trained.job}"
        refusal = self._send_array(array, required, at_a_time, part.lane, behind)
        if refusal:
            self.why_unevaluated = refusal
            self.unevaluated += [run for task in trained.tasks for run in task]

    def _send_array(
        self,
        array: Array,
        required: Requirements,
        at_a_time: int,
        lane: int | None,
        behind: str = "",
    ) -> str:
        """One sbatch call, claimed before and numbered after it; what SLURM said if it refused."""
        submission, cluster = self.submission, self.cluster
        before = self.last.get((lane, array.stage))
        dependency = ",".join(filter(None, (behind, f"afterany:{before}" if before else "")))
        submission.arrays.append(array)
        submission.save()
        paths = [self._path(array, index) for index in range(len(array.tasks))]
        code = Path(submission.code)
        parameters = parameters_of(
            array.name, required, at_a_time, cluster, code, dependency or None
        )
        try:
            folder = submission.folder / "jobs"
            jobs = submit_array(folder, cluster, parameters, JOBS[array.stage], paths)
        except (FailedJobError, FailedSubmissionError) as error:
            submission.arrays.remove(array)
            line = complaint(str(error))
            said = line.lower()
            if any(word in said for word in UNANSWERED):
                line += self._withdrawn(array.name)
            refused_for_now = any(word in said for word in REFUSALS) and FINAL not in said
            submission.complete = not refused_for_now
            submission.save()
            if refused_for_now:
                return line
            jobs = [sent.job for sent in submission.arrays if sent.job]
            before = f"; sent before that, and going on: jobs {', '.join(jobs)}" if jobs else ""
            raise UserError(f"cluster {cluster.name}: sbatch refused: {line}{before}") from None
        array.job = jobs[0].partition("_")[0]
        if lane is not None:
            self.last[lane, array.stage] = array.job
        submission.save()
        return ""

    def _withdrawn(self, name: str) -> str:
        """What became of an array that SLURM may have taken without telling its number: its tasks
        would not find what they are to do, so it must not stay.
        """
        tasks, site = slurm.queue([name]), ""
        if tasks == {} and (site := self.submission.slurm_cluster):
            tasks = slurm.queue([name], site) or {}
        if tasks is None:
            return f"; SLURM may have taken it: scancel --name={name}, then repeat the command"
        if not tasks:
            return "; SLURM shows no such job: repeat the command"
        jobs = sorted({task.job.partition("_")[0] for task in tasks.values()})
        if slurm.cancel(jobs, site):
            return f"; SLURM had taken it as {', '.join(jobs)}, cancelled now: repeat the command"
        return f"; SLURM has taken it: scancel {' '.join(jobs)}, then repeat the command"

    def _next_name(self) -> str:
        return f"repro-{self.submission.id}-{len(self.submission.arrays)}"

    def _path(self, array: Array, index: int) -> str:
        """The one path that a job receives."""
        runs = array.tasks[index]
        if len(runs) == 1:
            return str(self.folders[runs[0]].path)
        path = self.submission.folder / "packs" / f"{array.name}-{index}.json"
        path.parent.mkdir(exist_ok=True)
        folders = [str(self.folders[run].path) for run in runs]
        write_json(path, with_digest({"runs": folders}))
        return str(path)


def submit_array(
    folder: Path,
    cluster: SlurmCluster,
    parameters: dict[str, Any],
    function: Callable[[str], None],
    paths: Sequence[str],
) -> list[str]:
    """The numbers SLURM gave to jobs that call `function` with a path each."""
    with _environment_of(parameters):
        executor = submitit.SlurmExecutor(folder, python=cluster.python or None)
        executor.update_parameters(**parameters)
        return [str(sent.job_id) for sent in executor.map_array(function, list(paths))]


def script(runs: Sequence[PlannedRun], cluster: SlurmCluster, results: Path) -> str:
    """The batch script that would be submitted first for these runs: an array of trainings."""
    groups = [
        (TRAIN, required, _tasks(group, cluster, required))
        for required, group in _grouped(runs, cluster, {}, Increase(), TRAIN).items()
    ]
    size = _array_size(cluster, destination(cluster))
    part = divided(groups, size, cluster.parallel)[0]
    tasks, required, at_a_time = part.tasks, part.required, part.at_a_time
    code = results / "code" / "HASH"
    parameters = parameters_of("repro-SUBMISSION-0", required, at_a_time, cluster, code, None)

    class Writer(submitit.SlurmExecutor):
        """Writes the script also where there is no srun."""

        @classmethod
        def affinity(cls) -> int:
            return 1

    writer = Writer(results / "submissions" / "SUBMISSION" / "jobs", python=cluster.python or None)
    writer.update_parameters(**parameters)
    if len(tasks) > 1:
        writer.parameters["map_count"] = len(tasks)  # as its map_array does
    text: str = writer._make_submission_file_text(writer._submitit_command_str, "")
    return text


def _grouped(
    runs: Sequence[PlannedRun],
    cluster: SlurmCluster,
    had: Mapping[str, Mapping[str, Any]],
    more: Increase,
    stage: str,
) -> dict[Requirements, list[str]]:
    groups: dict[Requirements, list[str]] = defaultdict(list)
    for run in runs:
        required = requirements_of(
            cluster.placed(run.config), cluster, had.get(run.id, {}), more, stage
        )
        groups[required].append(run.id)
    return groups


def _tasks(runs: Sequence[str], cluster: SlurmCluster, required: Requirements) -> Tasks:
    """The runs of each job: one, or several small ones."""
    size = cluster.packed if required.ranks == 1 else 1
    return [list(runs[start : start + size]) for start in range(0, len(runs), size)]


def _folders(
    runs: Sequence[PlannedRun], cluster: SlurmCluster, results: Path
) -> dict[str, RunFolder]:
    """The runs' folders by id, with this cluster's resources in them, and no longer cancelled."""
    placed = [(run.slug, cluster.placed(run.config)) for run in runs]
    folders = create_runs((results / "runs").resolve(), placed)
    for run, folder, (_, config) in zip(runs, folders, placed, strict=True):
        ask(folder, run.requests, config)
        add_tags(folder, run.tags)
        if run.state is not None:
            refresh_resources(folder, config)
            folder.clear_cancel()
    return {folder.id: folder for folder in folders}


def _array_size(cluster: SlurmCluster, to: Destination) -> int:
    """Tasks of the largest array: as the profile says, or the cluster, or SLURM's default."""
    if cluster.max_array:
        return cluster.max_array
    size = to.settings.get("MaxArraySize", "")
    return int(size) if size.isdigit() and int(size) > 1 else DEFAULT_ARRAY


def _room(cluster: SlurmCluster) -> int:
    """How many more jobs the profile lets me have in the queue."""
    if not cluster.max_jobs:
        return 10**9
    return max(0, cluster.max_jobs - (slurm.my_tasks() or 0))


def check_sbatch() -> None:
    if slurm.ask("sbatch", "--version") is None:
        found = shutil.which("sbatch")
        what = f"{found} does not answer" if found else "no sbatch on this machine"
        raise UserError(f"{what}: submit from a login node of the cluster, or use --cluster local")
    # A shell that srun opened (--pty) is a person's; any other step repeats what one task does.
    if "SLURM_STEP_ID" in os.environ and "SLURM_PTY_PORT" not in os.environ:
        raise UserError(
            "this is a task of an srun step, and every task of it would submit: run repro without "
            "srun, from a login node, a batch script or a shell that srun --pty opened"
        )


@contextmanager
def _environment_of(parameters: Mapping[str, Any]) -> Iterator[None]:
    """Without what a surrounding job left in the environment, which sbatch would take for wishes,
    and without wishes of the user's shell that would override what the script says.
    """
    said = {**parameters, **parameters["additional_parameters"]}
    silent = {name for name, option in WISHES.items() if not said.get(option)}
    prefixes = ("SLURM_", "SLURMD_", "SRUN_", "SBATCH_", "SUBMITIT_")
    kept = silent.union(KEPT)
    hidden = {
        name: value
        for name, value in os.environ.items()
        if name in OF_RANKS or (name.startswith(prefixes) and name not in kept)
    }
    for name in hidden:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(hidden)


def complaint(text: str) -> str:
    """What sbatch said, in one line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line.removeprefix("sbatch: error: ") for line in lines if "error: " in line]
    return "; ".join(dict.fromkeys(errors)) or (lines or ["it said nothing"])[-1]
