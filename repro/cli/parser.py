"""The `repro` command: its parser, its exit codes, and mistakes as one line instead of a traceback.

Exit codes: 0 fine, 1 a negative finding or failed runs, 2 the user's mistake, 130 interrupted.
Nothing heavy is imported before the command that needs it runs, so that help is instant.
"""

from __future__ import annotations

import argparse
import errno
import os
import re
import sys
from collections.abc import Callable, Sequence

from repro.cli import evals as eval_commands
from repro.cli import results as commands
from repro.cli import runs as run_commands
from repro.cli.results import FINE, INTERRUPTED, MISTAKE
from repro.errors import UserError, nearest
from repro.harness.evaluation.names import PROTOCOLS

EPILOGUE = """\
the four things people do
  submit an ablation grid         repro submit T7 --scale laptop --seeds 3
  regenerate a paper table        repro table T7 --scale laptop
  plot collapse diagnostics       repro figure F7 --scale laptop
  compare with reported numbers   repro check F7 T7 --scale laptop

An ID is a table or figure of the paper (T7, F6R; repro list shows them), some of its rows
(T7:r1,r2), or all. What is done is never trained twice. A PATTERN is an ID, rows, the beginning
of a run id, a state (failed) or a glob on the run's name ('F7-*-s0').
"""


def main(words: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; `words` are the command line's by default."""
    try:
        arguments = _parse(list(sys.argv[1:] if words is None else words))
        code: int = arguments.command(arguments)
        sys.stdout.flush()
    except SystemExit as end:  # argparse has shown help, or its own error
        return end.code if isinstance(end.code, int) else MISTAKE
    except UserError as mistake:
        return _complain(str(mistake))
    except KeyboardInterrupt:
        print("repro: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader (head, less) has seen enough; without this Python complains at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FINE
    except OSError as error:
        place = error.filename or "a file"
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return _complain(f"{place}: no space left on this disk; free some and repeat")
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            return _complain(f"{place}: {error.strerror}; change permissions or REPRO_RESULTS")
        raise
    return code


def _complain(line: str) -> int:
    print(f"repro: error: {line}", file=sys.stderr)
    return MISTAKE


def _parse(words: list[str]) -> argparse.Namespace:
    parser, subparsers = build_parser()
    if words and not words[0].startswith("-") and words[0] not in subparsers:
        close = nearest(words[0], subparsers)
        raise UserError(f"no command '{words[0]}'; nearest: {close} (repro --help shows all)")
    arguments, unknown = parser.parse_known_args(words)
    if unknown:
        options = _options(subparsers[words[0]])
        name = unknown[0].partition("=")[0]
        raise UserError(
            f"repro {words[0]}: unknown argument '{unknown[0]}'; nearest: {nearest(name, options)}"
        )
    return arguments


def _options(parser: argparse.ArgumentParser) -> list[str]:
    return [o for action in parser._actions for o in action.option_strings if o.startswith("--")]


def build_parser() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    """The parser, and its subparsers by command, in the order of the help."""
    parser = argparse.ArgumentParser(
        prog="repro",
        description="Tables and figures of DINO (Caron et al., ICCV 2021), trained and compared.",
        epilog=EPILOGUE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    group = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    made: dict[str, argparse.ArgumentParser] = {}

    def command(
        name: str, function: Callable[[argparse.Namespace], int], text: str, example: str
    ) -> argparse.ArgumentParser:
        made[name] = group.add_parser(
            name,
            help=text,
            description=f"{text[0].upper()}{text[1:]}.",
            epilog=f"example: {example}",
            allow_abbrev=False,
        )
        made[name].set_defaults(command=function)
        return made[name]

    p = command("list", commands.list_, "experiments, rows, what is done", "repro list")
    _json(p)
    p = command("show", commands.show, "an experiment's rows and claims", "repro show T7")
    _ids(p)
    _json(p)
    text = "what would run, what is done, what it costs; starts nothing"
    p = command("plan", run_commands.plan, text, "repro plan T7 --scale laptop --seeds 3")
    _ids(p)
    _grid(p)
    text = "instead: how many seeds its claims need, from what seeds have varied by so far"
    p.add_argument("--power", action="store_true", help=text)
    _script(p)
    _json(p)
    text = "plan, confirm, train and evaluate what is missing; safe to repeat"
    p = command(
        "submit", run_commands.submit, text, "repro submit T7 --scale laptop --seeds 3 --yes"
    )
    _ids(p)
    _grid(p)
    _pool(p)
    _budget(p)
    _script(p)
    _report(p)
    _yes(p, "do not ask")
    text = "train what is missing, then print the table and draw the figure"
    p = command(
        "run", run_commands.run, text, "repro run F7:both,centering T7:r1,r2 --scale laptop"
    )
    _ids(p)
    _grid(p)
    _pool(p)
    _budget(p)
    _report(p)
    _yes(p, "as for submit; run never asks")
    text = "how runs are: a board in the paper's layout, failures by cause"
    p = command("status", run_commands.status, text, "repro status T7 --watch")
    _patterns(p)
    p.add_argument("--watch", action="store_true", help="again and again until nothing is running")
    text = "seconds between two looks (default: %(default)g)"
    p.add_argument("--every", type=float, default=10.0, metavar="S", help=text)
    p.add_argument("--runs", action="store_true", help="a line a run instead of the board")
    _json(p)
    p = command("logs", run_commands.logs, "the end of runs' logs", "repro logs T7:r2 --follow")
    _patterns(p)
    text = "go on printing until they have ended"
    p.add_argument("-f", "--follow", action="store_true", help=text)
    text = "lines of each (default: %(default)s)"
    p.add_argument("--lines", type=_positive, default=20, metavar="N", help=text)
    text = "all of the Nth start instead (runs start again after preemption)"
    p.add_argument("--attempt", type=_positive, metavar="N", help=text)
    text = "stop runs; they keep their checkpoints"
    p = command("cancel", run_commands.cancel, text, "repro cancel T7:r2")
    _patterns(p)
    _yes(p, "do not ask, whatever number of runs the pattern matches")
    text = "start failed, lost, interrupted and cancelled runs again"
    p = command("retry", run_commands.retry, text, "repro retry --only oom --mem +50% --yes")
    _patterns(p)
    p.add_argument("--only", metavar="CAUSE", help="those with this cause, as status names it: oom")
    text = "more than their last job had, e.g. +50%% (SLURM)"
    p.add_argument("--mem", type=_more, default=1.0, metavar="+N%", help=f"memory: {text}")
    p.add_argument("--time", type=_more, default=1.0, metavar="+N%", help=f"time limit: {text}")
    text = "a file of experiments/clusters/ (default: where each of them last was)"
    p.add_argument("--cluster", metavar="C", help=text)
    _pool(p)
    _yes(p, "do not ask")
    example = "repro train teacher.momentum=0.9 train.epochs=5 --scale laptop"
    p = command("train", run_commands.train, "one run from config overrides", example)
    text = (
        "a setting (head.prototypes=256) or a choice of files in experiments/base: method=byol, "
        "preset=vanilla, model=vit_tiny, data=folder, views=paper"
    )
    p.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help=text)
    _scale(p)
    _cluster(p)
    _pool(p)
    _report(p)
    text = "one evaluation protocol on any checkpoint, here and now"
    example = "repro eval knn --weights dino_deitsmall16_pretrain.pth --data birds=/data/birds"
    p = command("eval", eval_commands.evaluate, text, example)
    p.add_argument("protocol", choices=(*PROTOCOLS, eval_commands.FEATURES), help=_protocols())
    text = "run folders or checkpoints, the authors' files, timm's (.pth, .safetensors), timm:NAME"
    p.add_argument("--weights", nargs="+", required=True, metavar="FILE", help=text)
    text = (
        "PATH/train/CLASS/*, PATH/val/CLASS/*; benchmarks: voc12, davis17, roxford5k, rparis6k, "
        "copydays; made here: photographs, composites, clips, crops, copies (default: the run's)"
    )
    p.add_argument("--data", metavar="NAME=PATH", help=text)
    text = "of linear probes or finetuning (default: those of the scale; the paper's 100 and 300)"
    p.add_argument("--epochs", type=_positive, default=0, metavar="N", help=text)
    text = "attention: draw its heads' maps and masks (several may be given)"
    p.add_argument("--image", nargs="+", metavar="FILE", help=text)
    text = "attention: a video file or a folder of frames, with its map beside each frame"
    p.add_argument("--video", nargs="+", metavar="PATH", help=text)
    text = "pixels of the shorter side of drawn pictures (default: 480 for networks trained at 224)"
    p.add_argument("--side", type=_positive, default=0, metavar="N", help=text)
    text = "folder of pictures (default: results/figures)"
    p.add_argument("--out", metavar="FOLDER", help=text)
    _network(p)
    text = "a backbone as safetensors for timm, with a card that says how it was made"
    example = "repro export results/runs/F7-both-laptop-s0-1a2b3c4d5e dino.safetensors"
    p = command("export", eval_commands.export, text, example)
    p.add_argument("weights", metavar="FILE", help="a run folder or a checkpoint, as for eval")
    p.add_argument("target", metavar="OUT.safetensors", help="where to; the card lies beside it")
    _network(p)
    text = "the paper's table, our numbers beside the reported ones"
    p = command("table", commands.table, text, "repro table T7 --format tex")
    _ids(p)
    _scale(p)
    kinds = ("terminal", "md", "tex", "csv", "html")
    p.add_argument("--format", choices=kinds, default="terminal", help="default: %(default)s")
    text = "the paper's figure from our runs, as files; collapse RUN... overlays any runs"
    p = command("figure", commands.figure, text, "repro figure F7 --format pdf")
    text = "T7, all, scorecard, parity; or collapse and runs: folder, ID, rows, run id or glob"
    p.add_argument("ids", nargs="+", metavar="ID", help=text)
    _scale(p)
    p.add_argument("--format", choices=("png", "svg", "pdf"), help="default: png and svg")
    text = "verdicts on the paper's claims; exit code 1 if one is contradicted"
    p = command("check", commands.check, text, "repro check F7 --json")
    p.add_argument("ids", nargs="*", metavar="ID", help="experiments; default: all")
    _scale(p)
    text = "judge our runs, or the paper's own numbers (default: %(default)s)"
    p.add_argument("--on", choices=("ours", "reported"), default="ours", help=text)
    text = "the evidence behind every claim, not only behind contradicted ones"
    p.add_argument("-v", "--verbose", action="store_true", help=text)
    p.add_argument("--junit", metavar="FILE", help="also write the verdicts as JUnit XML, for CI")
    _json(p)
    text = "from a printed number or a claim to its runs, config, verdict, and what would turn it"
    p = command("explain", commands.explain, text, "repro explain T7:r2:knn")
    text = "one cell of a table or figure (ID:ROW:METRIC), or a claim (C.T7.4)"
    p.add_argument("address", metavar="CELL|CLAIM", help=text)
    _scale(p)
    _json(p)
    text = "everything as one self-contained HTML page: scorecard, tables, figures, provenance"
    p = command("report", commands.report, text, "repro report --scale laptop")
    _scale(p)
    text = "where to (default: results/report/SCALE.html)"
    p.add_argument("--out", metavar="PATH", default="", help=text)
    text = "write records, tables and figures to results/published/"
    p = command("publish", commands.publish, text, "repro publish F7 F6R --scale laptop")
    _ids(p)
    _scale(p)
    text = "this machine, and a cluster: what works, what will bite"
    p = command("doctor", commands.doctor, text, "repro doctor --cluster mine")
    text = "a SLURM profile: also ask its cluster, and try a tiny job on a node"
    p.add_argument("--cluster", metavar="C", help=text)
    _json(p)
    text = "remove what finished submissions left: job scripts, pickles, old code"
    p = command("gc", run_commands.gc, text, "repro gc --dry-run")
    p.add_argument("--dry-run", action="store_true", help="show it, remove nothing")
    _yes(p, "do not ask")
    return parser, made


def _ids(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("ids", nargs="+", metavar="ID", help="T7, rows T7:r1,r2, or all")


def _patterns(parser: argparse.ArgumentParser) -> None:
    text = "ID, rows, run id, state or glob; default: every run"
    parser.add_argument("patterns", nargs="*", metavar="PATTERN", help=text)


def _scale(parser: argparse.ArgumentParser) -> None:
    text = "smoke, laptop, gpu or paper (default: %(default)s)"
    parser.add_argument("--scale", default="laptop", help=text)


def _grid(parser: argparse.ArgumentParser) -> None:
    _scale(parser)
    text = "runs per row, seeds 0 to N-1 (default: %(default)s)"
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help=text)
    _cluster(parser)


def _cluster(parser: argparse.ArgumentParser) -> None:
    text = "a file of experiments/clusters/ (default: %(default)s)"
    parser.add_argument("--cluster", default="local", metavar="C", help=text)


def _pool(parser: argparse.ArgumentParser) -> None:
    text = "runs at a time (default: one a GPU, or as many as there are cores)"
    parser.add_argument("--workers", type=_positive, metavar="N", help=text)


def _protocols() -> str:
    about = {name: protocol.about for name, protocol in PROTOCOLS.items()}
    about[eval_commands.FEATURES] = "a t-SNE picture of class means and images"
    return "; ".join(f"{name}: {what}" for name, what in about.items()).replace("%", "%%")


def _network(parser: argparse.ArgumentParser) -> None:
    text = "which of a full checkpoint (default: teacher)"
    parser.add_argument("--network", choices=("teacher", "student"), default="", help=text)
    text = "attention heads of a ViT (default: its width over 64, or what our run says)"
    parser.add_argument("--heads", type=int, default=0, metavar="N", help=text)


def _budget(parser: argparse.ArgumentParser) -> None:
    text = "refuse to start more than so many GPU-hours (default: budget_hours of the profile)"
    parser.add_argument("--budget", type=float, metavar="HOURS", help=text)


def _script(parser: argparse.ArgumentParser) -> None:
    text = "print the batch script of the first run and start nothing (SLURM)"
    parser.add_argument("--script", action="store_true", help=text)


def _report(parser: argparse.ArgumentParser) -> None:
    text = "write the metrics there too: %(choices)s (repeat for both)"
    choices = ("tensorboard", "wandb")
    parser.add_argument("--report", action="append", choices=choices, metavar="TO", help=text)


def _more(word: str) -> float:
    match = re.fullmatch(r"\+(\d+)%", word)
    if match is None:
        raise argparse.ArgumentTypeError(f"'{word}' is not of the form +50%")
    return 1 + int(match[1]) / 100


def _positive(word: str) -> int:
    number = int(word)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} must be at least 1")
    return number


def _yes(parser: argparse.ArgumentParser, text: str) -> None:
    parser.add_argument("--yes", action="store_true", help=text)


def _json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON document, nothing else")


if __name__ == "__main__":
    sys.exit(main())
