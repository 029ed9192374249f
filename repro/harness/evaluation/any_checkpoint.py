"""`repro eval --weights` and `repro export`: protocols on any checkpoint, and our weights for timm.

A file stands for itself; a run folder stands for its last checkpoint, whose heads its config knows.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from repro.errors import UserError
from repro.files import replace_text
from repro.hardware import available_cores
from repro.harness.evaluation.classification import LABELLED, LOW_SHOT
from repro.harness.evaluation.names import PROTOCOLS, THROUGHPUT
from repro.harness.evaluation.protocol import Subject
from repro.harness.evaluation.requests import ask, request_for, without_data
from repro.harness.evaluation.stage import evaluate, loaded, made_on, measure
from repro.harness.experiments.folders import experiments_dir
from repro.harness.runs.evaluations import Images, Source, WeightsEvaluation
from repro.harness.runs.failures import GpuMemoryError
from repro.harness.runs.store import RunFolder

if TYPE_CHECKING:
    from repro.config.schema import Protocols, RunConfig
    from repro.evals.weights import Weights
    from repro.harness.experiments.clusters import Cluster

FEATURES = """\
Features: the final-norm [CLS] token of a ViT, pooled features of a ResNet. Images are normalised
with ImageNet's mean and deviation. At other sizes timm interpolates the positions of a ViT with
antialiasing, the authors and this project without: features then differ slightly."""


@dataclass(frozen=True)
class ChosenWeights:
    """Which weights a person chose; an empty word: the default."""

    path: Path
    network: str = ""
    heads: int = 0


def run_folder(path: Path) -> RunFolder | None:
    """The run folder that `path` is, or whose checkpoint it is; None for any other file."""
    for candidate in (path, *path.parents[:2]):
        if (candidate / "config.yaml").is_file():
            return RunFolder(candidate)
    return None


def open_weights(chosen: ChosenWeights) -> Weights:
    """Raises: UserError, with one line that says what of the file does not fit."""
    from repro.evals.weights import NETWORKS, TIMM, load_weights, named_weights

    path, heads = chosen.path, chosen.heads
    if str(path).startswith(TIMM):
        return named_weights(str(path).removeprefix(TIMM))
    folder = run_folder(path)
    if folder is None:
        return load_weights(path, chosen.network, heads)
    if not (path.is_file() or heads):
        return loaded(folder, chosen.network or NETWORKS[0])
    path = path if path.is_file() else folder.path / "checkpoints" / "last.pt"
    return load_weights(path, chosen.network, heads or folder.config().model.heads)


def evaluate_run(folder: RunFolder, protocol: str, cluster: Cluster, epochs: int = 0) -> bool:
    """A protocol on a run of ours, into its folder; whether it succeeded.

    On the run's own data, or on the protocol's benchmarks: what stands for them at the run's scale,
    or the folders that the cluster names.

    Args:
        epochs: of a linear probe or of finetuning; 0 for the scale's.

    Raises:
        UserError: a benchmark without stand-in and without folder.
    """
    from repro.config.compose import compose

    config = folder.config()
    protocols = compose(experiments_dir(), config.label.scale).protocols
    config = replace(cluster.with_benchmarks(config), protocols=_shortened(protocols, epochs))
    benchmarks = PROTOCOLS[protocol].benchmarks
    names = [f"{protocol}@{data}" for data in benchmarks] or [protocol]
    names = [name for name in names if not without_data(request_for(name, config))]
    if not names:
        raise UserError(
            f"{protocol}: no folder of {' or '.join(benchmarks)}: --data {benchmarks[0]}=PATH, or "
            f"data: of experiments/clusters/{cluster.name}.yaml"
        )
    ask(folder, names, config)
    return evaluate(folder, again=names)


def evaluate_weights(
    chosen: ChosenWeights, data: str, protocol: str, results: Path, epochs: int = 0
) -> tuple[dict[str, float], Path]:
    """A protocol's numbers for any checkpoint on any data, and the file they were written to.

    Args:
        data: NAME=PATH: a tree PATH/train/CLASS/* and PATH/val/CLASS/*, or a benchmark's folder; or
            the name of data that need no folder. NAME-1pct and NAME-10pct: with that share of the
            training images, those of PATH/1percent.txt or 10percent.txt where such a list lies.
            Throughput needs none.
        epochs: of a linear probe or of finetuning; 0 for the paper's.

    Raises:
        UserError: weights or data that cannot be read.
    """
    from repro.distributed import open_device

    name, _, root = data.partition("=")
    known = PROTOCOLS[protocol]
    whole, share = _share_of(name)
    labelled = bool(root) and whole in LABELLED
    if known.benchmarks and not root and name != known.stand_in:
        made = f"made here for {protocol}: {known.stand_in}"
        raise UserError(f"--data {data}: write {name}=PATH, its folder; {made}")
    if known.benchmarks or labelled or protocol == THROUGHPUT:
        config = _config_without_data()
    else:
        config = _data_config(f"{whole}={root}" if root else whole)
    config = replace(config, protocols=_shortened(config.protocols, epochs))
    weights = open_weights(chosen)
    device = open_device(config.resources.device.value)
    views = replace(config.views, global_size=weights.image_size)
    config = replace(config, model=weights.model, views=views)
    if protocol == THROUGHPUT:
        config = replace(config, data=replace(config.data, resolution=weights.image_size))
    cache = None if config.data.made_here else results / "features"
    subject = Subject(weights.backbone.to(device), config, device, cache)
    request = request_for(protocol, config)
    if known.benchmarks:
        request = replace(request, data=name, source=name.partition("-")[0], root=root)
    elif labelled:
        request = replace(request, data=name, source=whole, root=root)
    elif share:
        listed = Path(root) / f"{share.removesuffix('pct')}percent.txt"
        list_file = str(listed) if root and listed.is_file() else ""
        request = replace(request, data=share, source=share, root=list_file)
    try:
        metrics = measure(request, subject)
    except GpuMemoryError as error:
        raise UserError(f"{protocol}: {error}") from error
    about = (weights.digest, weights.network, name, protocol)
    path = results / "evaluations" / f"{'-'.join(part for part in about if part)}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    evaluation = WeightsEvaluation(
        protocol=protocol,
        request=request,
        weights=Source(str(weights.source), weights.digest, weights.network, weights.model.heads),
        data=Images(name, root),
        metrics=dict(metrics),
        details=subject.details,
        env=made_on(device),
    )
    evaluation.write(path)
    return metrics, path


def draw_features(chosen: ChosenWeights, data: str, out: Path) -> list[Path]:
    """A picture of the feature space of test images, in a folder of its own.

    Args:
        data: as for `evaluate_weights`; empty: that of the run.

    Raises:
        UserError: weights or data that cannot be read, or fewer than three classes.
    """
    from repro.distributed import open_device
    from repro.evals.features.space import draw_epochs, draw_space

    folder = run_folder(chosen.path)
    if not data and folder is None:
        raise UserError(f"--weights {chosen.path}: say on which images: --data NAME=PATH")
    config = folder.config() if folder and not data else _data_config(data)
    weights = open_weights(chosen)
    device = open_device(config.resources.device.value)
    subject = Subject(weights.backbone.to(device), config, device)
    test, names = subject.dataset.test, subject.dataset.classes
    whose = f"{folder.path.name if folder else chosen.path.stem}-{subject.dataset.name}"
    drawn = draw_space(subject.features(test), test.labels_N, names, whose, out / whose)
    files = sorted((folder.path / "features").glob("epoch-*.npy")) if folder and not data else []
    if files:
        drawn.append(draw_epochs(files, test.labels_N, names, whose, out / whose))
    return drawn


def export(chosen: ChosenWeights, target: Path) -> list[Path]:
    """Write a backbone as safetensors for timm, and beside it a card that says how it was made.

    Raises:
        UserError: weights that cannot be read, or a target that is not .safetensors.
    """
    from repro.config.schema import Family
    from repro.evals.weights import HEADS, save_weights, timm_call

    if target.suffix != ".safetensors":
        raise UserError(f"{target}: an export ends in .safetensors")
    weights = open_weights(chosen)
    folder = run_folder(chosen.path)
    card = {
        "load": timm_call(weights.model, weights.image_size, target.name),
        "source": f"{weights.source.name}, sha256 {weights.digest}",
        "network": weights.network or "backbone",
        **({HEADS: str(weights.model.heads)} if weights.model.family is Family.vit else {}),
        **(_origin(folder) if folder else {}),
    }
    target.parent.mkdir(parents=True, exist_ok=True)
    save_weights(weights.backbone, target, card)
    text = target.with_suffix(".md")
    replace_text(text, _card(target.name, card, asdict(weights.model)))
    return [target, text]


def _share_of(name: str) -> tuple[str, str]:
    """birds and 1pct of birds-1pct; any other name, and an empty share."""
    whole, _, share = name.rpartition("-")
    return (whole, share) if whole and share in LOW_SHOT else (name, "")


def _shortened(protocols: Protocols, epochs: int) -> Protocols:
    if not epochs:
        return protocols
    return replace(protocols, linear_epochs=epochs, finetune_epochs=epochs)


def _config_without_data() -> RunConfig:
    from repro.config.compose import compose

    workers = {"resources.data_workers": min(10, available_cores())}
    return compose(experiments_dir(), "paper", workers, "--data")


def _data_config(data: str) -> RunConfig:
    from repro.config.compose import compose
    from repro.config.schema import DataKind

    experiments = experiments_dir()
    name, _, path = data.partition("=")
    if name == DataKind.photographs.value and not path:
        return compose(experiments, "laptop", source="--data photographs")
    if not name or not path:
        raise UserError(f"--data {data}: write NAME=PATH, e.g. birds=/data/birds, or photographs")
    if not Path(path).is_dir():
        raise UserError(f"--data {data}: {path} is no folder")
    group = name if (experiments / "base" / "data" / f"{name}.yaml").is_file() else "folder"
    workers = min(10, available_cores())
    overrides = {"data": group, "paths.data": path, "resources.data_workers": workers}
    if group == "folder":
        overrides["data.name"] = name
    return compose(experiments, "paper", overrides, "--data")


def _origin(folder: RunFolder) -> dict[str, str]:
    """What a card says of a run of ours."""
    run, result = folder.read_run(), folder.result()
    origin = {
        "run": folder.path.name,
        "made for": f"{run.experiment}:{run.row} at {run.scale} scale, seed {run.seed}",
        "steps": f"{folder.step} of {run.total_steps or '?'}",
    }
    if result:
        metrics: dict[str, Any] = result["metrics"]
        origin["k-NN"] = f"{metrics['knn']:.1f} % on {folder.config().data.name}"
    return origin


def _card(name: str, card: dict[str, str], model: dict[str, Any]) -> str:
    lines = [f"# {name}", "", f"    {card['load']}", ""]
    lines += [f"- {key}: {value}" for key, value in card.items() if key != "load"]
    shape = ", ".join(f"{key} {getattr(value, 'name', value)}" for key, value in model.items())
    lines += [f"- backbone: {shape}", "", FEATURES]
    return "\n".join(lines) + "\n"
