"""The `repro` command: its parser, and mistakes as one line instead of a traceback."""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Sequence
from typing import Any

from repro.cli.commands import commands
from repro.cli.exit_codes import FINE, INTERRUPTED, MISTAKE
from repro.errors import UserError, nearest

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


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; `argv` is the command line's by default."""
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
        file = error.filename or "a file"
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return _complain(f"{file}: no space left on this disk; free some and repeat")
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            return _complain(f"{file}: {error.strerror}; change permissions or REPRO_RESULTS")
        raise
    return code


def _complain(line: str) -> int:
    print(f"repro: error: {line}", file=sys.stderr)
    return MISTAKE


def _parse(argv: list[str]) -> argparse.Namespace:
    parser, subparsers = build_parser()
    if argv and not argv[0].startswith("-") and argv[0] not in subparsers:
        close = nearest(argv[0], subparsers)
        raise UserError(f"no command '{argv[0]}'; nearest: {close} (repro --help shows all)")
    arguments, unknown = parser.parse_known_args(argv)
    if unknown:
        options = _options(subparsers[argv[0]])
        name = unknown[0].partition("=")[0]
        raise UserError(
            f"repro {argv[0]}: unknown argument '{unknown[0]}'; nearest: {nearest(name, options)}"
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
    parser.add_argument("--version", action=_Version, nargs=0, help="name, version and commit")
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
