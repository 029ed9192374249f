"""From files to types: YAML as plain values (`plain_yaml`), plain values as structs (`structs`)."""

from repro.decode.structs import (
    Strict,
    check_among,
    check_unique,
    choice,
    decode,
    mistakes,
    read_yaml,
)

__all__ = [
    "Strict",
    "check_among",
    "check_unique",
    "choice",
    "decode",
    "mistakes",
    "read_yaml",
]
