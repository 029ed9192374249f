"""`repro eval --weights` and `repro export`: protocols on any checkpoint, and our weights for timm.

A file stands for itself; a run folder stands for its last checkpoint, whose heads its config knows.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from repro.errors import UserError
from repro.files import replace_text
from repro.harness.evaluation.chosen_data import data_config, seen_by, shortened
from repro.harness.evaluation.names import PROTOCOLS
from repro.harness.evaluation.protocol import Subject
from repro.harness.evaluation.requests import ask, request_for, without_data
from repro.harness.evaluation.stage import loaded
from repro.harness.experiments.folders import experiments_dir
from repro.harness.runs.store import RunFolder

if TYPE_CHECKING:
    from repro.evals.weights.networks import Weights
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
    from repro.evals.weights.layouts import NETWORKS
    from repro.evals.weights.networks import TIMM, load_weights, named_weights

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


def ask_run(folder: RunFolder, protocol: str, cluster: Cluster, epochs: int = 0) -> list[str]:
    """Ask a run of ours for a protocol, and by which names its answers will lie in its folder.

    On the run's own data, or on the protocol's benchmarks: what stands for them at the run's scale,
    or the folders that the cluster names.

    Args:
        epochs: of a linear probe or of finetuning; 0 for the scale's.

    Raises:
        UserError: a run that is not done; a benchmark without stand-in and without folder.
    """
    if folder.result() is None:
        raise UserError(f"--weights {folder.path}: {folder.path.name} is not done; repro status")
    from repro.config.compose import compose

    config = folder.config()
    protocols = compose(experiments_dir(), config.label.scale).protocols
    config = replace(cluster.with_benchmarks(config), protocols=shortened(protocols, epochs))
    benchmarks = PROTOCOLS[protocol].benchmarks
    names = [f"{protocol}@{data}" for data in benchmarks] or [protocol]
    names = [name for name in names if not without_data(request_for(name, config))]
    if not names:
        made = PROTOCOLS[protocol].stand_in
        raise UserError(
            f"{protocol}: no folder of {' or '.join(benchmarks)}: --data {benchmarks[0]}=PATH, "
            f"--data {made} (made here), or data: of experiments/clusters/{cluster.name}.yaml"
        )
    ask(folder, names, config)
    return names


def draw_features(chosen: ChosenWeights, data: str, out: Path, side: int = 0) -> list[Path]:
    """A picture of the feature space of test images, in a folder of its own.

    Args:
        data: as for `chosen_data`; empty: that of the run.

    Raises:
        UserError: weights or data that cannot be read, or fewer than three classes.
    """
    from repro.distributed import open_device
    from repro.evals.features.space import draw_epochs, draw_space

    folder = run_folder(chosen.path)
    if not data and folder is None:
        raise UserError(f"--weights {chosen.path}: say on which images: --data NAME=PATH")
    weights = open_weights(chosen)
    if folder and not data:
        config = folder.config()
    else:
        config, _ = seen_by(data_config(data), weights, side)
    device = open_device(config.resources.device.value)
    subject = Subject(weights.backbone.to(device), config, device)
    test, names = subject.dataset.test, subject.dataset.classes
    whose = f"{folder.path.name if folder else chosen.path.stem}-{subject.dataset.name}"
    root, size = absolute(data.partition("=")[2]), config.data.resolution
    own = short_digest(weights.digest, weights.network, weights.model.heads, root, size)
    out = out / f"{whose}-{own}"
    drawn = draw_space(subject.features(test), test.labels_N, names, whose, out)
    files = sorted((folder.path / "features").glob("epoch-*.npy")) if folder and not data else []
    if files:
        drawn.append(draw_epochs(files, test.labels_N, names, whose, out))
    return drawn


def export(chosen: ChosenWeights, target: Path) -> list[Path]:
    """Write a backbone as safetensors for timm, and beside it a card that says how it was made.

    Raises:
        UserError: weights that cannot be read, or a target that is not .safetensors.
    """
    from repro.config.schema import Family
    from repro.evals.weights.export import save_weights, timm_call
    from repro.evals.weights.files import HEADS
    from repro.evals.weights.preprocessing import Rescaled

    if target.suffix != ".safetensors":
        raise UserError(f"{target}: an export ends in .safetensors")
    weights = open_weights(chosen)
    folder = run_folder(chosen.path)
    inner = weights.backbone.network if isinstance(weights.backbone, Rescaled) else None
    card = {
        "load": timm_call(weights.model, weights.image_size, target.name),
        "source": f"{weights.source.name}, sha256 {weights.digest}",
        "network": weights.network or "backbone",
        **({HEADS: str(weights.model.heads)} if weights.model.family is Family.vit else {}),
        **(
            {"normalisation": f"mean {weights.seen.mean}, deviation {weights.seen.std}"}
            if inner
            else {}
        ),
        **(_origin(folder) if folder else {}),
    }
    target.parent.mkdir(parents=True, exist_ok=True)
    save_weights(inner or weights.backbone, target, card)
    text = target.with_suffix(".md")
    replace_text(text, _card(target.name, card, asdict(weights.model)))
    return [target, text]


def short_digest(*parts: object) -> str:
    """Six hexadecimal digits that tell outputs of other inputs apart."""
    return hashlib.sha256(repr(parts).encode(errors="surrogateescape")).hexdigest()[:6]


def absolute(root: str) -> str:
    return str(Path(root).resolve()) if root else ""


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
