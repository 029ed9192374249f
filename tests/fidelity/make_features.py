"""Writes features.json: the authors' checkpoint layout, and the features their ViT gives.

    git clone https://github.com/facebookresearch/dino CHECKOUT
    python -m tests.fidelity.make_features --dino CHECKOUT

Names and shapes of every tensor of a full checkpoint, as `main_dino.py` saves it (the student in
DDP, both with heads), and [CLS] features of the backbone at the size of its position grid and at
sizes that need interpolation.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch

from tests.fidelity import inputs
from tests.fidelity.make_golden import network, open_checkout

SIZES = ((224, 224), (96, 96), (256, 256), (160, 224))


def images(height: int, width: int) -> torch.Tensor:
    random = torch.Generator().manual_seed(height * 10_000 + width)
    return torch.randn(2, 3, height, width, generator=random)


def main() -> None:
    made = open_checkout("tests.fidelity.make_features", __doc__)
    wrapped = network().eval()
    with torch.no_grad():
        features = {
            f"{height}x{width}": wrapped.backbone(images(height, width)).tolist()
            for height, width in SIZES
        }
        # [CLS] of the last two blocks, as eval_linear.py takes them
        last = wrapped.backbone.get_intermediate_layers(images(224, 224), 2)
        blocks = torch.cat([tokens[:, 0] for tokens in last], dim=1).tolist()
    content = {
        "made": made,
        "tensors": {name: list(tensor.shape) for name, tensor in wrapped.state_dict().items()},
        "features": features,
        "last_two_blocks": blocks,
    }
    path = Path(__file__).with_name("features.json")
    path.write_text(json.dumps(content, indent=None) + "\n")
    assert len(features["224x224"][0]) == inputs.DIM


if __name__ == "__main__":
    main()
