"""Where runs go: `experiments/clusters/*.yaml`, this machine (`local`) or a SLURM cluster.

`experiments/clusters/slurm.yaml` explains every key of a SLURM profile and is there to be copied.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, cast, get_type_hints

from msgspec import Meta, field

from repro.config.checks import check
from repro.config.schema import NonNegativeFloat, NonNegativeInt, PositiveInt, Resources, RunConfig
from repro.decode import Strict, decode, read_yaml
from repro.errors import UserError, nearest
from repro.harness.experiments.folders import experiments_dir, scales_of


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
    """One SLURM cluster; GPUs, CPUs and memory are those of one rank of a run."""

    gpus: NonNegativeInt
    cpus: PositiveInt
    memory_gb: Annotated[float, Meta(gt=0)]
    minutes: PositiveInt
    partition: str = ""
    account: str = ""
    qos: str = ""
    constraint: str = ""
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
    extra: Mapping[str, Any] = field(default_factory=dict)
    srun: tuple[str, ...] = ()
    python: str = ""


Cluster = LocalCluster | SlurmCluster


def load_cluster(name: str) -> Cluster:
    """A profile by its name in `experiments/clusters/`, or from a file (`my/cluster.yaml`).

    Raises:
        UserError: an unknown cluster (lists the known ones) or a mistake in its file.
    """
    if name.endswith(".yaml"):
        if not Path(name).is_file():
            raise UserError(f"--cluster {name}: no such file")
        return read_cluster(Path(name).absolute(), str(Path(name).absolute()))
    folder = experiments_dir() / "clusters"
    known = sorted(path.stem for path in folder.glob("*.yaml"))
    if name not in known:
        raise UserError(
            f"no cluster '{name}' in {folder}; nearest: {nearest(name, known)} "
            f"(known: {', '.join(known)})"
        )
    return read_cluster(folder / f"{name}.yaml", name)


def read_cluster(path: Path, name: str) -> Cluster:
    """Raises: UserError, which names the file, the key and the fix."""
    cluster = decode(read_yaml(path), cast(type[Cluster], Cluster), str(path), name=name)
    _check_resources(cluster.resources, path)
    return cluster


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
