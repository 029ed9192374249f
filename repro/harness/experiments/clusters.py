"""Where runs go: `experiments/clusters/*.yaml`, this machine (`local`) or a SLURM cluster.

`experiments/clusters/slurm.yaml` explains every key of a SLURM profile and is there to be copied. A
profile may begin from another (`profile: NAME`) and say only what differs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, cast, get_type_hints

from msgspec import Meta, field

from repro.config.checks import check
from repro.config.schema import NonNegativeFloat, NonNegativeInt, PositiveInt, Resources, RunConfig
from repro.decode import Strict, decode, read_yaml
from repro.errors import UserError, nearest
from repro.harness.experiments.folders import clusters, experiments_dir, scales_of

BASE = "profile"  # the key that names the profile which a file begins from
OF_THE_HARNESS = {  # options of sbatch that no profile decides, and why
    "array": "is made of the runs of a submission",
    "dependency": "is how evaluations wait for their trainings",
    "kill-on-invalid-dep": "is how evaluations wait for their trainings",
    "job-name": "is how jobs are found again",
    "output": "is where status reads what jobs print",
    "error": "is where status reads what jobs print",
    "open-mode": "keeps what earlier starts printed",
    "nodes": "follows from resources.ranks and gpus_per_node:",
    "ntasks": "follows from resources.ranks",
    "ntasks-per-node": "follows from resources.ranks and gpus_per_node:",
    "wait": "would hold the submission until all jobs have ended",
    "wrap": "would take the script's place",
}
OF_KEYS = {  # keys of a profile that set an option, by the option
    "time": "minutes",
    "cpus-per-task": "cpus",
    "signal": "warning_seconds",
    **dict.fromkeys(("mem", "mem-per-cpu", "mem-per-gpu"), "memory_gb"),
    **dict.fromkeys(("gpus", "gpus-per-node", "gpus-per-task", "gpus-per-socket"), "gpus"),
    **{
        key.replace("_", "-"): key
        for key in (
            "partition", "account", "qos", "reservation", "constraint", "wckey", "exclusive",
            "mail_type", "mail_user",
        )
    },
}  # fmt: skip


class Profile(Strict, frozen=True, kw_only=True, tag_field="kind"):
    """`data` maps names of data sets to their folders; `resources` overrides a run's resources, for
    all scales or (`{paper: {ranks: 16}}`) for one.
    """

    name: str  # as --cluster takes it: of a profile, or the path of its file; not in the file
    data: Mapping[str, str] = field(default_factory=dict)
    resources: Annotated[
        Mapping[str, Any], Meta(extra_json_schema={"$ref": "#/$defs/Resources"})
    ] = field(default_factory=dict)

    def with_benchmarks(self, config: RunConfig) -> RunConfig:
        """The run, knowing where its evaluations find their benchmarks here."""
        return replace(config, paths=replace(config.paths, benchmarks=dict(self.data)))

    def placed(self, config: RunConfig) -> RunConfig:
        """The run with this cluster's folders of data and resources; its identity is the same.

        Raises:
            UserError: the resources are of a wrong type or do not suit the run.
        """
        if not self.data and not self.resources:
            return config
        from omegaconf import OmegaConf
        from omegaconf.errors import OmegaConfBaseException

        settings = {k: v for k, v in self.resources.items() if not isinstance(v, dict)}
        settings |= self.resources.get(config.label.scale, {})
        folder = self.data.get(config.data.name, config.paths.data)
        try:
            merged = OmegaConf.merge(OmegaConf.structured(config.resources), settings)
            resources = cast(Resources, OmegaConf.to_object(merged))
            known = self.with_benchmarks(config)
            paths = replace(known.paths, data=folder)
            placed = replace(known, resources=resources, paths=paths)
            check(placed)
        except (OmegaConfBaseException, UserError) as error:
            line = str(error).splitlines()[0]
            raise UserError(f"cluster {self.name}: resources of this profile: {line}") from None
        return placed


class LocalCluster(Profile, frozen=True, kw_only=True, tag="local"):
    """This machine: `workers` runs at a time with `threads` CPU threads each; 0: decided here.
    `gpus` are those that may be used; empty: all.
    """

    workers: NonNegativeInt = 0
    threads: NonNegativeInt = 0
    gpus: tuple[int | str, ...] = ()

    @property
    def visible(self) -> tuple[str, ...]:
        """The GPUs as CUDA_VISIBLE_DEVICES names them."""
        return tuple(map(str, self.gpus))


class SlurmCluster(Profile, frozen=True, kw_only=True, tag="slurm"):
    """One SLURM cluster; GPUs, CPUs and memory are those of one rank of a run. What is empty or 0
    is left to the site, and to the SBATCH_* variables of the user's shell.
    """

    gpus: NonNegativeInt
    cpus: PositiveInt
    minutes: PositiveInt
    memory_gb: NonNegativeFloat = 0.0
    partition: str = ""
    account: str = ""
    qos: str = ""
    reservation: str = ""
    constraint: str = ""
    wckey: str = ""
    exclusive: bool = False
    mail_type: str = ""
    mail_user: str = ""
    gpu_type: str = ""
    gpus_by: Literal["gpus-per-node", "gres"] = "gpus-per-node"
    gpus_per_node: PositiveInt = 8
    evaluation_minutes: PositiveInt = 60
    packed: PositiveInt = 1  # small runs side by side in one job
    parallel: PositiveInt = 64  # jobs at a time
    max_array: NonNegativeInt = 0
    max_jobs: NonNegativeInt = 0
    warning_seconds: NonNegativeInt = 120
    requeues: NonNegativeInt = 30
    budget_hours: NonNegativeFloat = 0.0
    setup: tuple[str, ...] = ()
    node_setup: tuple[str, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)
    srun: tuple[str, ...] = ()
    python: str = ""

    @property
    def options(self) -> dict[str, Any]:
        """`extra` as sbatch names its options, with dashes."""
        return {key.replace("_", "-"): value for key, value in self.extra.items()}


Cluster = LocalCluster | SlurmCluster


def load_cluster(name: str) -> Cluster:
    """A profile by its name in `experiments/clusters/`, of the study or the program, or from a file
    (`my/cluster.yaml`).

    Raises:
        UserError: an unknown cluster (lists the known ones) or a mistake in its file.
    """
    if name.endswith(".yaml"):
        if not Path(name).is_file():
            raise UserError(f"--cluster {name}: no such file")
        return read_cluster(Path(name).absolute(), str(Path(name).absolute()))
    known = clusters()
    if name not in known:
        folder = experiments_dir() / "clusters"
        raise UserError(
            f"no cluster '{name}' in {folder}; nearest: {nearest(name, known)} "
            f"(known: {', '.join(sorted(known))})"
        )
    return read_cluster(known[name], name)


def read_cluster(path: Path, name: str) -> Cluster:
    """Raises: UserError, which names the file, the key and the fix."""
    content = _inherited(path)
    cluster = decode(content, cast(type[Cluster], Cluster), str(path), [BASE], name=name)
    _check_resources(cluster.resources, path)
    if isinstance(cluster, SlurmCluster):
        _check_options(cluster, path)
        _check_warning(cluster, path)
    return cluster


def _inherited(path: Path, above: tuple[Path, ...] = ()) -> Any:
    """The keys of a profile's file over those of the profile it begins from.

    Of `data`, `resources` and `extra` the single entries count.
    """
    content = read_yaml(path)
    if not isinstance(content, dict) or BASE not in content:
        return content
    name = str(content[BASE])
    base = path.parent / (name if name.endswith(".yaml") else f"{name}.yaml")
    if not base.is_file():
        known = clusters()
        if name not in known:
            folder = experiments_dir() / "clusters"
            raise UserError(
                f"{path}: profile: no profile '{name}' beside it or in {folder}; nearest: "
                f"{nearest(name, known)}"
            )
        base = known[name]
    if base.resolve() in (*above, path.resolve()):
        raise UserError(f"{path}: profile: '{name}' begins from this one; remove one of the two")
    beneath = _inherited(base, (*above, path.resolve()))
    own = {key: value for key, value in content.items() if key != BASE}
    if not isinstance(beneath, dict):
        return own
    joined = {
        key: beneath[key] | value
        for key, value in own.items()
        if isinstance(value, dict) and isinstance(beneath.get(key), dict)
    }
    return beneath | own | joined


def _check_options(cluster: SlurmCluster, path: Path) -> None:
    """Nothing that is said twice is decided silently.

    Raises:
        UserError: an option of `extra` that the harness or another key of the profile sets, or
            that stands there twice; more GPUs for a rank than a node has.
    """
    if cluster.gpus > cluster.gpus_per_node:
        raise UserError(
            f"{path}: gpus: {cluster.gpus} is more than gpus_per_node: {cluster.gpus_per_node}"
        )
    names = [key.replace("_", "-") for key in cluster.extra]
    for index, name in enumerate(names):
        if name in names[:index]:
            raise UserError(f"{path}: extra: '{name}' stands there twice; keep one of them")
        if name in OF_THE_HARNESS:
            raise UserError(f"{path}: extra: '{name}' {OF_THE_HARNESS[name]}; remove it")
        key = OF_KEYS.get(name, "")
        if key and getattr(cluster, key):
            raise UserError(f"{path}: extra: '{name}' is also set by {key}:; keep one of them")
    if cluster.gpus and "gpu" in str(cluster.options.get("gres", "")):
        raise UserError(
            f"{path}: extra: 'gres' asks for GPUs, as gpus: does; keep gpus:, with gpu_type: and "
            "gpus_by: gres where the site wants them so"
        )


def _check_warning(cluster: SlurmCluster, path: Path) -> None:
    for key in ("minutes", "evaluation_minutes"):
        minutes = getattr(cluster, key)
        if cluster.warning_seconds >= 60 * minutes:
            raise UserError(
                f"{path}: warning_seconds: {cluster.warning_seconds} is not shorter than "
                f"{key}: {minutes}: jobs would be warned of their end as they begin; lower the "
                "one or raise the other"
            )


def _check_resources(values: Mapping[str, Any], path: Path) -> None:
    known = get_type_hints(Resources)
    scales = scales_of(experiments_dir())
    for key, value in values.items():
        inner = value if isinstance(value, dict) else {key: value}
        if isinstance(value, dict) and key not in scales:
            near = nearest(key, scales)
            raise UserError(f"{path}: resources: unknown scale '{key}'; nearest: {near}")
        for name in inner:
            if name not in known:
                near = nearest(name, known)
                raise UserError(f"{path}: resources: unknown key '{name}'; nearest: {near}")
