"""Student and teacher: backbone and head, run on views of several resolutions (Sec. 3.1, 3.2)."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from repro.config import RunConfig
from repro.dino.backbones import build_backbone, feature_dim
from repro.dino.heads import DinoHead


class Network(nn.Module):
    """Backbone and head; one backbone pass per resolution, one head pass over all views."""

    def __init__(self, backbone: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, views: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Views of all images -> features [sum of views x B, D] and logits [sum of views x B, K].

        Args:
            views: one tensor [V x B, 3, side, side] per resolution, view-major.
        """
        features = torch.cat([self.backbone(view).float() for view in views])
        return features, self.head(features)


def build_student(config: RunConfig) -> Network:
    backbone = build_backbone(config.model, config.views.global_size, config.model.drop_path)
    return Network(backbone, DinoHead(feature_dim(backbone), config.head))


def build_teacher(config: RunConfig, student: Network) -> Network:
    """A network of its own with the student's weights, without drop path and without gradients."""
    backbone = build_backbone(config.model, config.views.global_size, drop_path=0.0)
    teacher = Network(backbone, copy.deepcopy(student.head))
    teacher.load_state_dict(student.state_dict())
    teacher.requires_grad_(False)
    return teacher
