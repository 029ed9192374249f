"""Which network of a checkpoint is meant, under whatever names it lies there.

A backbone is found by a tensor that every ViT or ResNet has; what stands before that tensor's name
stands before all of its names (`module.`, `backbone.`, `_orig_mod.`, `model.encoder.`, ...). Where
there are several backbones, the words before them say which is whose.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from repro.errors import UserError
from repro.evals.weights.files import HEADS, check_names, some, tensors

NETWORKS = ("teacher", "student")  # of a full checkpoint, the one to evaluate first
# Dictionaries in which others wrap a backbone; averaged weights come first, as in timm's loader.
AVERAGED = ("state_dict_ema", "model_ema")
CONTAINERS = ("state_dict", "model", "model_state_dict")
ANCHORS = ("cls_token", "patch_embed.proj.weight", "layer1.0.conv1.weight")
WHOSE = {  # a word before a tensor's name; MoCo and its like evaluate the encoder that learns
    "teacher": "teacher", "momentum_encoder": "teacher", "encoder_k": "teacher",
    "target_encoder": "teacher", "student": "student", "base_encoder": "student",
    "encoder_q": "student", "online_encoder": "student",
}  # fmt: skip
# What sits on top of the features, and tokens that only pretraining reads.
DROPPED = ("head.", "fc.", "classifier.", "mask_token", "masked_embed", "decoder_")
OURS = {"step", "student", "teacher", "method"}  # keys that our checkpoints have


def heads_said(content: dict[str, Any], path: Path) -> int:
    """What a file of ours says, and takes along in `content`; 0 for files of others."""
    said = content.pop(HEADS, 0)
    heads = said if isinstance(said, int) else 0
    teacher = content.get("teacher") if content.keys() >= OURS else None
    if not heads and isinstance(teacher, dict) and "backbone.cls_token" in teacher:
        # a checkpoint from before they said it
        raise UserError(
            f"{path}: a checkpoint outside its run folder does not say how many heads its network "
            "has (--heads)"
        )
    return heads


def backbone_state(
    content: dict[str, Any], network: str, path: Path
) -> tuple[dict[str, Tensor], str]:
    """The tensors of the backbone under plain names, and which network of the file it is."""
    by_network = {name: content[name] for name in NETWORKS if isinstance(content.get(name), dict)}
    averaged, plain = _first_of(AVERAGED, content), _first_of(CONTAINERS, content)
    if not by_network and averaged is not None:
        by_network = {"teacher": averaged} | ({} if plain is None else {"student": plain})
    if by_network:
        chosen = network or next(iter(by_network))
        if chosen not in by_network:
            raise _without(network, by_network, path)
        state, _ = _by_prefix(by_network[chosen], "", path)
        return state, chosen
    return _by_prefix(content if plain is None else plain, network, path)


def _first_of(names: tuple[str, ...], content: Mapping[str, Any]) -> dict[str, Any] | None:
    return next((content[name] for name in names if isinstance(content.get(name), dict)), None)


def _by_prefix(
    content: Mapping[str, Any], network: str, path: Path
) -> tuple[dict[str, Tensor], str]:
    """The tensors behind the prefix of one backbone; `network`: whose, where there are several."""
    check_names(content, path)
    prefixes = _prefixes(content)
    whose = {prefix: _owner(prefix) for prefix in prefixes}
    if network and network not in whose.values():
        raise _without(network, sorted(filter(None, whose.values())), path)
    if network:
        prefixes = [prefix for prefix in prefixes if whose[prefix] == network]
    elif len(prefixes) > 1:
        spoken = [p for p in prefixes if "teacher" in p.split(".")]
        prefixes = spoken or [p for p in prefixes if whose[p] == "student"] or prefixes
    if len(prefixes) > 1:
        raise UserError(f"{path}: holds several networks, {some(prefixes)}; which one is not said")
    prefix = prefixes[0] if prefixes else ""
    own = {
        name.removeprefix(prefix): value
        for name, value in content.items()
        if name.startswith(prefix)
    }
    kept = {name: value for name, value in own.items() if not name.startswith(DROPPED)}
    return tensors(kept, path), whose.get(prefix, "")


def _prefixes(content: Mapping[str, Any]) -> list[str]:
    """What stands before the names of each backbone, in the order of the file."""
    for anchor in ANCHORS:
        found = [n.removesuffix(anchor) for n in content if n == anchor or n.endswith(f".{anchor}")]
        if found:
            return found
    return []


def _owner(prefix: str) -> str:
    return next((WHOSE[word] for word in prefix.split(".") if word in WHOSE), "")


def _without(network: str, there: Any, path: Path) -> UserError:
    return UserError(
        f"{path}: has no '{network}'; it holds {', '.join(there) or 'one network without a name'}"
    )
