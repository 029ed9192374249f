"""Rules that size a run to a small data set: K, teacher momentum, temperature and warm-ups.

The paper's values belong to 1.28 million images and 375,000 steps. On a few thousand images K =
65,536 leaves prototypes unused and momentum 0.996 hardly moves the teacher, the two most frequent
causes of a loss that stays at ln K. The laptop and gpu scales follow these rules (a test sees to
it); for data of your own:

    python -m repro.sizing --images 12000 --epochs 100 --batch 64

prints the overrides for `repro train`, and `repro train --size-to-data` takes them. Other code
bases interpolate between sizes that worked (lightly-train's automatic arguments); here each value
keeps a ratio.
"""

from __future__ import annotations

import argparse
import math
from typing import TYPE_CHECKING

from repro.errors import UserError

if TYPE_CHECKING:
    from repro.config.schema import RunConfig

IMAGES_A_PROTOTYPE = 64  # the paper's Figure 7 has 313, its default 20
PROTOTYPES = (16, 65536)
TEACHER_SHARE = 0.05  # of training, over which the teacher averages
MOMENTA = (0.9, 0.9995)
WARMUP_SHARE, WARMUP_EPOCHS = 0.1, 10  # the paper's 10 of 100 epochs
TEMPERATURE = 0.04  # the ablations' best constant one; 0.06 and above may collapse (App. D)


def size_to(images: int, epochs: int, batch: int) -> dict[str, float]:
    """Overrides for a training of `epochs` on `images` images, in batches of `batch`."""
    low, high = PROTOTYPES
    prototypes = 2 ** round(math.log2(images / IMAGES_A_PROTOTYPE))
    steps = epochs * (images // batch)
    distance = float(f"{1 / max(1.0, TEACHER_SHARE * steps):.0e}")
    momentum = min(max(1 - distance, MOMENTA[0]), MOMENTA[1])
    return {
        "head.prototypes": min(max(prototypes, low), high),
        "head.freeze_last_layer_epochs": 1,
        "teacher.momentum": round(momentum, 6),
        "target.temp_start": TEMPERATURE,
        "target.temp": TEMPERATURE,
        "target.temp_warmup_epochs": 0,
        "optim.warmup_epochs": min(WARMUP_EPOCHS, max(1, round(WARMUP_SHARE * epochs))),
    }


def check_method(config: RunConfig) -> None:
    """Raises: UserError: a method whose outputs are no prototypes, which the rules are about."""
    from repro.config.schema import LossKind, Operation

    if (
        config.loss.kind is not LossKind.cross_entropy
        or config.target.operation is Operation.labels
    ):
        raise UserError(
            f"--size-to-data: loss.kind={config.loss.kind.name} with "
            f"target.operation={config.target.operation.name} has no prototypes to size; drop it"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description="overrides that size a run to a small data set")
    parser.add_argument("--images", type=int, required=True, help="training images")
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--batch", type=int, required=True, help="images per optimiser step")
    chosen = parser.parse_args()
    if min(vars(chosen).values()) < 1 or chosen.batch > chosen.images:
        parser.error("--images, --epochs and --batch must be positive, and a batch fit the images")
    overrides = size_to(chosen.images, chosen.epochs, chosen.batch)
    print(" ".join(f"{key}={value}" for key, value in overrides.items()))


if __name__ == "__main__":
    main()
