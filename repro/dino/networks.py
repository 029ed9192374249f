"""Student and teacher: backbone and head, run on views of several resolutions (Sec. 3.1, 3.2).

Shapes: M = views x B samples, view-major; D feature width, P projection width, K outputs.
"""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
from torch import Tensor, nn

from repro.config.schema import RunConfig
from repro.dino.backbones import build_backbone, feature_dim, features_of
from repro.dino.fast.kernels import REFERENCE, Kernels
from repro.dino.heads import DinoHead
from repro.randomness import derive

PREDICTOR = "head.predictor."  # parameters of the student that the teacher lacks


class Outputs(NamedTuple):
    """What a network says of all views; `logits_MK` are the projections without prototypes."""

    features_MD: Tensor
    projections_MP: Tensor
    logits_MK: Tensor


class Network(nn.Module):
    """Backbone and head; one head pass over the views of all resolutions."""

    def __init__(self, backbone: nn.Module, head: DinoHead) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, views: list[Tensor]) -> Outputs:
        """Views of all images, one tensor [V x B, 3, side, side] per resolution, view-major."""
        features_MD = features_of(self.backbone, views)
        projections_MP = self.head.project(features_MD)
        return Outputs(features_MD, projections_MP, self.head.classify(projections_MP))


def initial_backbone(config: RunConfig, kernels: Kernels = REFERENCE) -> nn.Module:
    """The backbone with which a run begins: a function of its seed."""
    with torch.random.fork_rng():
        _seed_weights(config)
        return build_backbone(config.model, config.views.global_size, kernels=kernels)


def build_student(config: RunConfig, kernels: Kernels = REFERENCE) -> Network:
    """Its weights are a function of the run's seed."""
    _seed_weights(config)
    model, views = config.model, config.views
    backbone = build_backbone(model, views.global_size, model.drop_path, kernels)
    dim = feature_dim(backbone)
    return Network(backbone, DinoHead(dim, config.head, config.predictor, kernels))


def build_teacher(config: RunConfig, student: Network, kernels: Kernels = REFERENCE) -> Network:
    """A network of its own with the student's weights, without drop path and without gradients.

    A predictor stays with the student.
    """
    backbone = build_backbone(config.model, config.views.global_size, 0.0, kernels)
    head = copy.deepcopy(student.head)
    head.predictor = None
    teacher = Network(backbone, head)
    weights = student.state_dict()
    teacher.load_state_dict({k: v for k, v in weights.items() if not k.startswith(PREDICTOR)})
    teacher.requires_grad_(False)
    return teacher


def _seed_weights(config: RunConfig) -> None:
    torch.manual_seed(derive(config.seed, "weights"))
