"""The `repro` command: what it parses, what it does, what it prints."""

from repro.cli.parser import build_parser, main

__all__ = ["build_parser", "main"]
