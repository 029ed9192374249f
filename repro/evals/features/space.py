"""Pictures of the feature space: t-SNE of class means (App. H), and of single images.

Shapes: N images, C classes, D feature width.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import seaborn as sns
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.manifold import TSNE
from torch import Tensor
from torch.nn.functional import normalize

from repro.errors import UserError

PERPLEXITY = 30.0  # scikit-learn's default; less for few points
MOST_IMAGES = 3000  # in a picture
SAME = 1e-5  # the largest difference of unit features that is rounding alone
NAMED = 40  # classes, beyond which names would cover the picture
Points = NDArray[np.float32]


def class_means(features_ND: Tensor, labels_N: Tensor) -> tuple[Tensor, Tensor]:
    """The mean feature of each class that has images, [C, D], and the classes, [C]."""
    classes = torch.unique(labels_N)
    means = [features_ND[labels_N == label].mean(dim=0) for label in classes]
    return torch.stack(means), classes


def embed(features_ND: Tensor) -> Points:
    """Two dimensions by t-SNE of unit features, the same every time, [N, 2].

    Features that are all the same, but for rounding, are all on one spot.

    Raises:
        UserError: fewer than three points, or features that are not finite.
    """
    if not bool(features_ND.isfinite().all()):
        raise UserError("t-SNE: features that are not finite; the training diverged")
    if len(features_ND) < 3:
        raise UserError(f"t-SNE: {len(features_ND)} points; it takes at least 3")
    units_ND = normalize(features_ND, dim=1)
    if float((units_ND - units_ND[0]).abs().max()) < SAME:  # of which scikit-learn crashes
        return np.zeros((len(units_ND), 2), np.float32)
    perplexity = min(PERPLEXITY, (len(features_ND) - 1) / 3)
    tsne = TSNE(perplexity=perplexity, init="pca", random_state=0)
    points: Points = tsne.fit_transform(units_ND.numpy())
    return points


def draw_space(
    features_ND: Tensor, labels_N: Tensor, classes: Sequence[str], title: str, folder: Path
) -> list[Path]:
    """A picture of class means beside one of images, and their coordinates as CSV.

    Raises:
        UserError: fewer than three classes.
    """
    means_CD, present_C = class_means(features_ND, labels_N)
    chosen = some(labels_N)
    images = _table(embed(features_ND[chosen]), [classes[i] for i in labels_N[chosen].tolist()])
    means = _table(embed(means_CD), [classes[i] for i in present_C.tolist()])
    figure = Figure(figsize=(10, 5), layout="constrained")
    panels = figure.subplots(1, 2)
    colours = dict(zip(classes, sns.color_palette("husl", len(classes)), strict=True))
    for panel, table, size in ((panels[0], means, 40), (panels[1], images, 8)):
        sns.scatterplot(
            table, x="x", y="y", hue="class", palette=colours, s=size, legend=False, ax=panel
        )
        panel.set(xticks=[], yticks=[], xlabel="", ylabel="")
    if len(means) <= NAMED:
        for x, y, name in means.itertuples(index=False):
            panels[0].annotate(name, (x, y), xytext=(4, 4), textcoords="offset points", fontsize=7)
    panels[0].set_title(f"class means, {title}")
    panels[1].set_title(f"{len(images):,} images")
    folder.mkdir(parents=True, exist_ok=True)
    picture = folder / "feature-space.png"
    figure.savefig(picture, dpi=150)
    tables = [(folder / "class-means.csv", means), (folder / "images.csv", images)]
    for path, table in tables:
        table.to_csv(path, index=False)
    return [picture, *(path for path, _ in tables)]


def draw_epochs(
    files: Sequence[Path], labels_N: Tensor, classes: Sequence[str], title: str, folder: Path
) -> Path:
    """The feature space at every evaluation of a training, one panel each.

    Args:
        files: features of the images that `some` chooses, named epoch-N.npy, in order of time.

    Raises:
        UserError: a file that does not belong to these images.
    """
    chosen = labels_N[some(labels_N)]
    columns = min(4, len(files))
    rows = -(-len(files) // columns)
    figure = Figure(figsize=(2.6 * columns, 2.7 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False)
    colours = np.array(sns.color_palette("husl", len(classes)))
    for panel in panels.flat:
        panel.set_axis_off()
    for panel, file in zip(panels.flat, files, strict=False):
        features_ND = torch.from_numpy(np.load(file)).float()
        if len(features_ND) != len(chosen):
            raise UserError(f"{file}: {len(features_ND)} images, the data set has {len(chosen)}")
        points = embed(features_ND)
        panel.scatter(*points.T, c=colours[chosen.numpy()], s=3, linewidths=0)
        epoch = float(file.stem.partition("-")[2])
        panel.set_title(f"epoch {epoch:g}", fontsize=9)
    figure.suptitle(title, fontsize=10)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "feature-space-epochs.png"
    figure.savefig(path, dpi=150)
    return path


def some(labels_N: Tensor) -> Tensor:
    """Places of at most so many images, evenly over all of them."""
    step = -(-len(labels_N) // MOST_IMAGES)
    return torch.arange(0, len(labels_N), step)


def _table(points: Points, names: list[str]) -> pd.DataFrame:
    return pd.DataFrame({"x": points[:, 0], "y": points[:, 1], "class": names})
