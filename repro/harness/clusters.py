"""Where runs go: `experiments/clusters/*.yaml`. Only `kind: local`, this machine, exists so far."""

from __future__ import annotations

from dataclasses import dataclass

import yaml

from repro.errors import UserError, nearest
from repro.harness.spec import experiments_dir
from repro.harness.spec_checks import REQUIRED, Keys, check_keys

CLUSTER: Keys = {"kind": (str, REQUIRED), "workers": (int, 0), "threads": (int, 0)}


@dataclass(frozen=True)
class Cluster:
    """`workers` runs at a time with `threads` CPU threads each; 0: decided from the machine."""

    kind: str
    workers: int
    threads: int


def load_cluster(name: str) -> Cluster:
    """Raises: UserError for an unknown cluster (lists the known ones) or a mistake in its file."""
    folder = experiments_dir() / "clusters"
    known = sorted(path.stem for path in folder.glob("*.yaml"))
    if name not in known:
        raise UserError(
            f"no cluster '{name}' in {folder}; nearest: {nearest(name, known)} "
            f"(known: {', '.join(known)})"
        )
    path = folder / f"{name}.yaml"
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    cluster = Cluster(**check_keys(content, CLUSTER, str(path)))
    if cluster.kind != "local":
        raise UserError(f"{path}: kind '{cluster.kind}' must be local")
    return cluster
