"""Jaccard index of self-attention masks with ground-truth objects (Figure 4, App. D).

Per object the best head counts: the mean over objects of the maximum over heads. Void pixels, which
PASCAL VOC leaves unlabelled around objects, belong to neither mask.

Shapes: A attention heads, O objects, H x W pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor


def jaccard(predicted: Tensor, truth: Tensor, void: Tensor) -> float:
    """Intersection over union outside `void`, all boolean [H, W]; 1 if both are empty there."""
    seen = ~void
    both = (predicted & truth & seen).sum()
    either = ((predicted | truth) & seen).sum()
    return float(both / either) if either else 1.0


def best_head_jaccard(masks_AHW: Tensor, objects_OHW: Tensor, void_HW: Tensor) -> float:
    """Mean over the objects of an image of the best head's Jaccard index, in percent."""
    best = [max(jaccard(mask, truth, void_HW) for mask in masks_AHW) for truth in objects_OHW]
    return 100 * float(torch.tensor(best).mean())
