"""`repro train`."""

from __future__ import annotations

import argparse

from repro.cli import options
from repro.cli.runs.start import start

HELP = "one run from config overrides"
EXAMPLE = "repro train teacher.momentum=0.9 train.epochs=5 --scale laptop"


def add(parser: argparse.ArgumentParser) -> None:
    text = (
        "a setting (head.prototypes=256) or a choice of files in experiments/base: method=byol, "
        "preset=vanilla, model=vit_tiny, data=folder, views=paper"
    )
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help=text)
    text = (
        "K, momentum, temperature and warm-ups by the number of training images (repro.sizing); "
        "what you set yourself stays"
    )
    parser.add_argument("--size-to-data", action="store_true", help=text)
    options.add_scale(parser)
    options.add_cluster(parser)
    options.add_workers(parser)
    options.add_report(parser)


def run(arguments: argparse.Namespace) -> int:
    from repro.config.compose import compose, parse_assignments
    from repro.harness.experiments.clusters import load_cluster
    from repro.harness.experiments.folders import experiments_dir, results_dir
    from repro.harness.plan.plan import planned_run
    from repro.harness.runs.store import find_run, find_runs

    overrides = parse_assignments(arguments.overrides)
    config = compose(experiments_dir(), arguments.scale, overrides, "repro train")
    if arguments.size_to_data:
        from repro.data.datasets import count_training_images
        from repro.sizing import check_method, size_to

        check_method(config)
        images = count_training_images(config.data, config.paths.data)
        sized = size_to(images, config.train.epochs, config.train.batch_size)
        sized = {key: value for key, value in sized.items() if key not in overrides}
        print(f"sized to {images} images:", *(f"{key}={value}" for key, value in sized.items()))
        config = compose(experiments_dir(), arguments.scale, {**overrides, **sized}, "repro train")
    config.label.experiment = "train"
    runs = results_dir() / "runs"
    planned = planned_run(config, {folder.id: folder for folder in find_runs(runs)})
    cluster = load_cluster(arguments.cluster)
    code = start([planned], cluster, arguments.workers, arguments.report, wait=True)
    folder = find_run(runs, planned.id)
    if folder and (result := folder.result()):
        for key, value in result["metrics"].items():
            print(f"{key:<20} {value if value is None else format(value, '.6g')}")
        print(f"{'sentinel':<20} {result['sentinel']['state']}: {result['sentinel']['meaning']}")
        print(folder.path)
    return code
