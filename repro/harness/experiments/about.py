"""What a claim is about: the keys of the config that the rows it compares differ in on purpose.

A file says so (`about:`, of all of its claims or of one). Whatever else tells two compared rows
apart is a confound, which `analysis/verdicts/confounds.py` names beside the verdict.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Annotated

from msgspec import Meta

from repro.errors import UserError, nearest

# A key of the config, a section of it, or METHOD.
Topic = Annotated[str, Meta(extra_json_schema={"$ref": "#/$defs/Topic"})]
# What a method computes (Table 14): not what it sees, nor how it is optimised.
METHOD, OF_METHODS = "method", ("head", "target", "teacher", "loss", "predictor", "queue")


@cache
def topics() -> Sequence[str]:
    """All that a claim can be about, in the order of the config."""
    from repro.config.keys import dotted_keys

    keys = dotted_keys()
    sections = dict.fromkeys(key.partition(".")[0] for key in keys if "." in key)
    return METHOD, *sections, *keys


def check_topics(about: Sequence[str], where: str) -> None:
    """Raises: UserError for the first word that no claim can be about, with the nearest."""
    for word in about:
        if word not in topics():
            known = nearest(word, topics())
            raise UserError(f"{where}: about: no key or section '{word}'; nearest: {known}")


def concerns(about: Sequence[str], key: str) -> bool:
    """Whether a key of the config is among what a claim is about."""
    section = key.partition(".")[0]
    return key in about or section in about or (METHOD in about and section in OF_METHODS)
