"""What people type for a sweep, by Hydra's own parser: `K=64,256`, `range()`, `choice()`, `glob()`.

Values are then read by the type of their key, as everywhere (`repro/config/typed.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, IntervalSweep, Override, OverrideType
from hydra.core.override_parser.types import Transformer as As
from hydra.errors import HydraException

from repro.config.compose import parse_assignments
from repro.config.keys import GROUPS, dotted_keys
from repro.errors import UserError, nearest
from repro.harness.experiments.folders import experiments_dir
from repro.harness.experiments.grid import MOST, text_of
from repro.harness.experiments.own import Swept

DIGITS = 12  # of a number; range(0.9,1,0.05) is 0.95, not 0.9500000000000001


def read_sweep(words: Sequence[str]) -> Swept:
    """Raises: UserError: a word that is no setting, or no sweep that can be enumerated."""
    axes: dict[str, list[Any]] = {}
    fixed: dict[str, Any] = {}
    for word in words:
        override = _parsed(word)
        key = override.key_or_group
        if key not in (known := [*dotted_keys(), *GROUPS]):
            raise UserError(f"'{word}': unknown key; nearest valid key: {nearest(key, known)}")
        if key in axes or key in fixed:
            raise UserError(f"'{word}': {key} is set twice")
        if key == "seed":
            raise UserError(f"'{word}': seeds are no axis; --seeds N takes seeds 0 to N-1")
        texts = list(_texts(word, override))
        values = {text_of(value): value for value in (_read(key, text) for text in texts)}
        if len(values) > 1:
            axes[key] = list(values.values())
        else:
            (fixed[key],) = values.values()
    return Swept(axes, fixed)


def _parsed(word: str) -> Override:
    try:
        override = OverridesParser.create().parse_override(word)
    except HydraException as error:
        raise UserError(f"'{word}': {str(error).splitlines()[0]}") from None
    if override.type is not OverrideType.CHANGE or override.package is not None:
        raise UserError(f"'{word}': write KEY=VALUE, or KEY=VALUE,VALUE")
    return override


def _texts(word: str, override: Override) -> Iterator[str]:
    """The values as text, each as it would stand alone behind the key."""
    value = override.value()
    if isinstance(value, IntervalSweep):
        raise UserError(f"'{word}': an interval has no end of values; use range() or choice()")
    if isinstance(value, Glob):
        yield from _files(word, override.key_or_group, value)
        return
    if not override.is_sweep_override():
        yield word.partition("=")[2]
        return
    for one in islice(override.sweep_iterator(transformer=As.encode), MOST + 1):
        yield f"{one:.{DIGITS}g}" if isinstance(one, float) else text_of(one)


def _files(word: str, group: str, pattern: Glob) -> list[str]:
    if group not in GROUPS:
        raise UserError(f"'{word}': glob() chooses files of {', '.join(GROUPS)}")
    folder = experiments_dir() / "base" / group
    chosen = pattern.filter(sorted(path.stem for path in folder.glob("*.yaml")))
    if not chosen:
        raise UserError(f"'{word}': no file of {folder} has such a name")
    return chosen


def _read(key: str, text: str) -> Any:
    return parse_assignments([f"{key}={text}"])[key]
