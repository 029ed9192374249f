"""What would keep planned runs from ending well at a place: said in the plan, before they queue.

Folders of data are looked for here and, by `repro doctor`'s test job, on a node; what that job saw
is kept beside it. A run whose data set has no folder at all, or none on the node that was asked, is
not sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import msgspec

from repro.config.schema import DataKind, Family, RunConfig
from repro.errors import UserError
from repro.files import folder_fault, read_object, with_digest, write_json
from repro.harness.experiments.clusters import Cluster, SlurmCluster
from repro.harness.plan.room import memory
from repro.harness.slurm.requirements import most_a_node, shape_of
from repro.terminal import count

LARGEST_CARD = 300e9  # bytes; no GPU of today has more
COMMON_CARD = 80e9
MOST_RANKS = 128
MANY_IMAGES = 256  # of a GPU at once: fewer are not worth counting


def remarks(configs: Sequence[RunConfig], cluster: Cluster, results: Path) -> tuple[str, ...]:
    """Of runs placed on the cluster, a line each.

    Raises:
        UserError: ranks that do not fill its nodes evenly.
    """
    lines = list(dict.fromkeys(_of_data(configs, cluster, results)))
    if isinstance(cluster, SlurmCluster):
        lines += dict.fromkeys(_of_shapes(configs, cluster))
    lines += dict.fromkeys(_of_memory(configs))
    return tuple(lines)


def check_folders(configs: Sequence[RunConfig], cluster: SlurmCluster, results: Path) -> None:
    """Raises: UserError for a data set without a folder, or with one that a node did not have."""
    for name, folder, runs in _data_sets(configs):
        if why := _fatal(name, folder, cluster, results):
            needed = f"needed by {count(runs, 'run')}; nothing is sent"
            raise UserError(f"cluster {cluster.name}: {why}; {needed}")


def keep_seen(cluster: SlurmCluster, results: Path, faults: dict[str, str]) -> None:
    """What a test job saw of the profile's folders: by folder what is wrong with it, or nothing;
    and what this machine sees of it.
    """
    file = _seen_file(results)
    file.parent.mkdir(parents=True, exist_ok=True)
    seen = {folder: [fault, folder_fault(folder)] for folder, fault in faults.items()}
    write_json(file, with_digest({**_kept(results), cluster.name: seen}))


def _of_data(configs: Sequence[RunConfig], cluster: Cluster, results: Path) -> Iterable[str]:
    for name, folder, _ in _data_sets(configs):
        if why := _fatal(name, folder, cluster, results):
            yield why
        elif folder_fault(folder) and folder not in _seen(cluster, results):
            yield f"{name}: {folder} is not on this machine" + (
                f", and repro doctor --cluster {cluster.name} has not looked for it on a node yet"
                if isinstance(cluster, SlurmCluster)
                else ""
            )


def _fatal(name: str, folder: str, cluster: Cluster, results: Path) -> str:
    if not folder:
        return (
            f"data set {name} has no folder: set data: {{{name}: FOLDER}} in the profile "
            f"{cluster.name}"
        )
    fault, here = _seen(cluster, results).get(folder, ("", ""))
    if fault and folder_fault(folder) == here:  # and nothing has changed since
        return (
            f"data set {name} is not where the profile says: {fault} (on a node, as repro doctor "
            f"--cluster {cluster.name} saw it; mend it and ask the doctor again)"
        )
    return ""


def _data_sets(configs: Sequence[RunConfig]) -> list[tuple[str, str, int]]:
    """(name, folder, number of runs) of data sets that lie in files."""
    found: dict[tuple[str, str], int] = {}
    for config in configs:
        kind, folder = config.data.kind, config.paths.data
        if kind is DataKind.folder or (kind is DataKind.torchvision and not folder):
            found[config.data.name, folder] = found.get((config.data.name, folder), 0) + 1
    return [(name, folder, runs) for (name, folder), runs in found.items()]


def _seen(cluster: Cluster, results: Path) -> dict[str, tuple[str, str]]:
    """By folder, what was wrong with it on a node and on the machine that asked."""
    return _kept(results).get(cluster.name, {})


def _kept(results: Path) -> dict[str, dict[str, tuple[str, str]]]:
    """By profile, what its nodes had; of a damaged file nothing: nobody has looked."""
    kind = dict[str, dict[str, tuple[str, str]]]
    with suppress(UserError, msgspec.ValidationError):
        return msgspec.convert(read_object(_seen_file(results)) or {}, kind)
    return {}


def _seen_file(results: Path) -> Path:
    return results / "doctor" / "data.json"


def _of_shapes(configs: Sequence[RunConfig], cluster: SlurmCluster) -> Iterable[str]:
    most = most_a_node(cluster)
    for config in configs:
        ranks = config.resources.ranks
        shape = shape_of(ranks, cluster, config.train.batch_size)
        if shape.ranks_a_node < min(ranks, most):
            yield f"{ranks} ranks: {shape}, which have room for {most}"


def _of_memory(configs: Sequence[RunConfig]) -> Iterable[str]:
    """Runs that fit no GPU, as a paper-scale one whose profile says nothing of ranks."""
    by_views = sorted(configs, key=lambda config: config.views.local_number)
    alike = {(_network(c), c.train.batch_size, c.resources.ranks): c for c in by_views}
    for (network, _, _), config in alike.items():
        ranks, images = config.resources.ranks, config.train.batch_size
        if images // (ranks * config.resources.accumulate) <= MANY_IMAGES:
            continue
        try:
            needed = _memory(config, ranks)
        except ImportError:  # torch, which a login node may lack
            return
        if needed > LARGEST_CARD:
            more = (r for r in range(ranks + 1, MOST_RANKS) if images % r == 0)
            fits = next((r for r in more if _memory(config, r) < COMMON_CARD), MOST_RANKS)
            yield (
                f"{network}, batch {images}: up to {needed / 1e9:,.0f} GB on a GPU at "
                f"ranks: {ranks}, and no GPU has as much: resources: {{{config.label.scale}: "
                f"{{ranks: {fits}}}}} of the profile"
            )


def _network(config: RunConfig) -> str:
    patch = f"/{config.model.patch_size}" if config.model.family is Family.vit else ""
    return f"{config.model.name}{patch}"


def _memory(config: RunConfig, ranks: int) -> float:
    share = max(1, config.train.batch_size // ranks)
    return memory(replace(config, train=replace(config.train, batch_size=share)))
