"""The `repro` command: its parser, and mistakes as one line instead of a traceback."""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Sequence
from typing import Any

from repro.cli.commands import SYNONYMS, commands
from repro.cli.exit_codes import FINE, INTERRUPTED, MISTAKE
from repro.errors import UserError, near
from repro.terminal import ready_streams

LIKENESS = 0.7  # commands and options are short, so that more of a slip must be right
LONGEST = 1000  # characters of a mistake's line; a value in it may be a page
# A path that is a file where a folder should be, has too long a name, runs in a circle.
PLACES = (errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP, errno.ENOENT)

EPILOGUE = """\
the four things people do
  submit an ablation grid         repro submit T7 --scale laptop --seeds 3
  regenerate a paper table        repro table T7 --scale laptop
  plot collapse diagnostics       repro figure F7 --scale laptop
  compare with reported numbers   repro check F7 T7 --scale laptop

An ID is a table or figure of the paper (T7, F6R; repro list shows them), some of its rows
(T7:r1,r2), or all. A run that is done here is not trained again; one that is only published is.
A PATTERN is an ID, rows, the beginning of a run id, a state (failed), a glob on the run's name
('F7-*-s0'), a folder, or the name or a tag of a run of your own.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; `argv` is the command line's by default."""
    ready_streams()
    os.environ["MPLBACKEND"] = "agg"  # a notebook's cells name theirs, which does not draw files
    try:
        arguments = _parse(list(sys.argv[1:] if argv is None else argv))
        code: int = arguments.run(arguments)
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
        return _complain(_of_disk(error))
    return code


def _of_disk(error: OSError) -> str:
    """What the system refused, where, and what to do."""
    file, why = error.filename or "a file", error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"{file}: no space left on this disk; free some and repeat"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{file}: {why}; change permissions or REPRO_RESULTS"
    if error.errno in PLACES:
        return f"{file}: {why}; is REPRO_RESULTS the folder that you mean?"
    return f"{file}: {why}"


def _complain(message: str) -> int:
    line = " ".join(message.split("\n"))
    if len(line) > LONGEST:
        line = f"{line[: LONGEST // 2]} ... {line[-LONGEST // 2 :]}"
    print(f"repro: error: {line}", file=sys.stderr)
    return MISTAKE


def _parse(argv: list[str]) -> argparse.Namespace:
    """Options may stand before, between and after the words of a command."""
    parser, subparsers = build_parser()
    if argv[:1] == ["help"]:
        argv = [*argv[1:2], "--help"]
    if argv == ["version"]:
        argv = ["--version"]
    if not argv or argv[0].startswith("-"):
        return parser.parse_args(argv or ["--help"])
    if argv[0] not in subparsers:
        raise UserError(f"no command '{argv[0]}'; {_instead(argv[0], list(subparsers))}")
    chosen = subparsers[argv[0]]
    # argparse keeps its usage meanwhile, and would read the %] of [--mem +N%] as a format.
    chosen.usage = chosen.format_usage().removeprefix("usage: ").strip().replace("%", "%%")
    arguments, unknown = chosen.parse_known_intermixed_args(argv[1:])
    if unknown:
        options = {name: _options(each) for name, each in subparsers.items()}
        hint = _elsewhere(unknown[0].partition("=")[0], argv[0], options)
        raise UserError(f"repro {argv[0]}: unknown argument '{unknown[0]}'; {hint}")
    return arguments


def _instead(word: str, commands: list[str]) -> str:
    """What somebody may have meant by a command that there is not."""
    begun = [name for name in commands if len(word) > 1 and name.startswith(word)]
    close = SYNONYMS.get(word) or near(word, commands, LIKENESS) or next(iter(begun), "")
    return f"nearest: {close} (repro --help shows all)" if close else "repro --help shows all"


def _elsewhere(word: str, command: str, options: dict[str, list[str]]) -> str:
    """What somebody may have meant by an option that the command does not take."""
    own = [option.lstrip("-") for option in options[command]]
    if close := near(word.lstrip("-"), own, LIKENESS):
        return f"nearest: --{close}"
    takers = [name for name, its in options.items() if word in its]
    if takers:
        return f"an option of {', '.join(f'repro {name}' for name in takers)}"
    return f"repro {command} --help shows all"


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
    parser.add_argument(
        "-V", "--version", action=_Version, nargs=0, help="name, version and commit"
    )
    group = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    subparsers: dict[str, argparse.ArgumentParser] = {}
    for name, command in commands().items():
        subparsers[name] = group.add_parser(
            name,
            help=command.HELP,
            description=f"{command.HELP[0].upper()}{command.HELP[1:]}.",
            epilog=f"example: {command.EXAMPLE}",
            allow_abbrev=False,
        )
        subparsers[name].set_defaults(run=command.run)
        command.add(subparsers[name])
    return parser, subparsers


class _Version(argparse.Action):
    """argparse's own would want the commit before anybody asks for it."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from repro import __version__
        from repro.harness.runs.environment import code_version

        sha = code_version()["git_sha"]
        print(f"repro {__version__}" + (f" ({sha})" if sha else ""))
        parser.exit()
