"""`repro train`."""

from __future__ import annotations

import argparse
import re
from dataclasses import replace
from typing import TYPE_CHECKING

from repro.cli import options
from repro.cli.exit_codes import FINE
from repro.cli.runs.start import start

if TYPE_CHECKING:
    from repro.harness.experiments.clusters import Cluster
    from repro.harness.runs.planned import PlannedRun

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
    text = "what to call it (default: what you set of it)"
    parser.add_argument("--name", type=_name, help=text)
    text = "a word to find it by, as in repro runs TAG (repeat for several)"
    parser.add_argument("--tag", action="append", default=[], type=_name, help=text)
    text = "say which run it would be and how that one is; start nothing"
    parser.add_argument("--dry-run", action="store_true", help=text)
    text = "print the config as YAML, complete; start nothing"
    parser.add_argument("--cfg", action="store_true", help=text)
    options.add_scale(parser)
    options.add_cluster(parser)
    options.add_workers(parser)
    options.add_report(parser)


def run(arguments: argparse.Namespace) -> int:
    from repro.config.compose import compose, parse_assignments
    from repro.harness.experiments.clusters import load_cluster
    from repro.harness.experiments.folders import experiments_dir, results_dir
    from repro.harness.plan.plan import planned_run
    from repro.harness.runs.planned import OWN, own_name
    from repro.harness.runs.records import early_end
    from repro.harness.runs.store import config_text, find_run, find_runs

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
    config.label.experiment = OWN
    config.label.row = arguments.name or own_name(overrides)
    cluster = load_cluster(arguments.cluster)
    if arguments.cfg:
        print(config_text(cluster.placed(config)), end="")
        return FINE
    runs = results_dir() / "runs"
    planned = planned_run(config, {folder.id: folder for folder in find_runs(runs)})
    planned = replace(planned, tags=tuple(arguments.tag))
    if arguments.dry_run:
        return _announce(planned, cluster)
    code = start([planned], cluster, arguments.workers, arguments.report, wait=True)
    folder = find_run(runs, planned.id)
    if folder and (result := folder.result()):
        for key, value in result["metrics"].items():
            print(f"{key:<20} {value if value is None else format(value, '.6g')}")
        print(f"{'sentinel':<20} {result['sentinel']['state']}: {result['sentinel']['meaning']}")
        if early := early_end(result, str(folder.path)):
            print(f"{'ended':<20} {early}")
        print(folder.path)
    return code


def _announce(planned: PlannedRun, cluster: Cluster) -> int:
    """Its name, whether it is there already, and what it would cost."""
    from repro.harness.experiments.folders import results_dir
    from repro.harness.plan.cost import estimate
    from repro.harness.plan.plan import to_do, with_view
    from repro.harness.runs.store import find_run
    from repro.harness.status.overview import overview
    from repro.terminal import duration

    results = results_dir()
    if folder := find_run(results / "runs", planned.id):
        planned = with_view(planned, overview([folder], results))
    print(f"{planned.slug}-{planned.id}: {planned.state_name}; nothing was started")
    cost = estimate({planned.id: planned.config}, planned.config.label.scale, results)
    if to_do(planned) and cost:
        hours = {"GPU": cost.gpu_hours, "core": cost.cpu_hours}
        told = " or ".join(f"{duration(n)} of a {unit}" for unit, n in hours.items() if n)
        print(f"about {told} on {cluster.name} (from {cost.basis})")
    return FINE


def _name(text: str) -> str:
    """A name or tag, as a type of argparse: words of a file's name."""
    if not re.fullmatch(r"[A-Za-z0-9][\w.+=-]{0,59}", text):
        raise argparse.ArgumentTypeError(f"'{text}': up to 60 letters, digits and any of _.+=-")
    return text
