"""Where runs go: `experiments/clusters/*.yaml`, this machine (`local`) or a SLURM cluster.

`experiments/clusters/slurm.yaml` explains every key of a SLURM profile and is there to be copied.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, cast

import yaml

from repro.config.checks import check
from repro.config.schema import Resources, RunConfig
from repro.errors import UserError, nearest
from repro.harness.experiments.folders import experiments_dir
from repro.harness.experiments.keys import NUMBER, REQUIRED, Keys, check_keys

COMMON: Keys = {"kind": (str, REQUIRED), "data": (dict, {}), "resources": (dict, {})}
LOCAL: Keys = {**COMMON, "workers": (int, 0), "threads": (int, 0), "gpus": (list, [])}
AT_LEAST_ONE = ("cpus", "gpus_per_node", "minutes", "evaluation_minutes", "packed", "parallel")


@dataclass(frozen=True)
class Cluster:
    """This machine: `workers` runs at a time with `threads` CPU threads each; 0: decided here.
    `visible` names the GPUs that may be used; empty: all.

    `data` maps names of data sets to their folders; `resources` overrides a run's resources, for
    all scales or (`{paper: {ranks: 16}}`) for one.
    """

    name: str  # as --cluster takes it: of a profile, or the path of its file
    kind: str
    data: Mapping[str, str] = field(default_factory=dict)
    resources: Mapping[str, Any] = field(default_factory=dict)
    workers: int = 0
    threads: int = 0
    visible: tuple[str, ...] = ()

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


@dataclass(frozen=True, kw_only=True)
class SlurmCluster(Cluster):
    """One SLURM cluster; GPUs, CPUs and memory are those of one rank of a run."""

    gpus: int
    cpus: int
    memory_gb: float
    minutes: int
    partition: str = ""
    account: str = ""
    qos: str = ""
    constraint: str = ""
    gpus_per_node: int = 8
    evaluation_minutes: int = 60
    packed: int = 1  # small runs side by side in one job
    parallel: int = 64  # jobs at a time
    max_array: int = 0
    max_jobs: int = 0
    warning_seconds: int = 120
    requeues: int = 30
    budget_hours: float = 0.0
    setup: Sequence[str] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)
    srun: Sequence[str] = ()
    python: str = ""


def _keys_of_a_slurm_profile() -> Keys:
    """The fields of `SlurmCluster`, with their types and defaults."""
    kinds = {
        "str": str,
        "int": int,
        "float": NUMBER,
        "Sequence[str]": list,
        "Mapping[str, Any]": dict,
    }
    own = [item for item in fields(SlurmCluster) if item.name in SlurmCluster.__annotations__]
    keys: dict[str, tuple[Any, Any]] = dict(COMMON)
    for item in own:
        default = REQUIRED if item.default is MISSING else item.default
        if item.default_factory is not MISSING:
            default = item.default_factory()
        keys[item.name] = (kinds[str(item.type)], default)
    return keys


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
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    kind = content.get("kind") if isinstance(content, dict) else None
    if kind not in ("local", "slurm"):
        raise UserError(f"{path}: kind '{kind}' must be local or slurm")
    keys = LOCAL if kind == "local" else _keys_of_a_slurm_profile()
    values = check_keys(content, keys, str(path))
    _check_resources(values["resources"], path)
    if kind == "local":
        visible = tuple(str(gpu) for gpu in values.pop("gpus"))
        return Cluster(name, visible=visible, **values)
    for key in AT_LEAST_ONE:
        if values[key] < 1:
            raise UserError(f"{path}: {key}: {values[key]} must be at least 1")
    return SlurmCluster(name, **values)


def _check_resources(values: Mapping[str, Any], path: Path) -> None:
    known = {item.name for item in fields(Resources)}
    scales = {file.stem for file in (experiments_dir() / "scales").glob("*.yaml")}
    for key, value in values.items():
        inner = value if isinstance(value, dict) else {key: value}
        if isinstance(value, dict) and key not in scales:
            near = nearest(key, scales)
            raise UserError(f"{path}: resources: unknown scale '{key}'; nearest: {near}")
        for name in inner:
            if name not in known:
                near = nearest(name, known)
                raise UserError(f"{path}: resources: unknown key '{name}'; nearest: {near}")
