"""The entities of an RO-Crate, each once; the library's own classes are not typed."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from repro.errors import UserError

RO_CRATE = "1.1"  # on which the profile rests
TERMS = {  # of the profile, beside those of RO-Crate
    name: f"https://w3id.org/ro/terms/workflow-run#{name}" for name in ("sha256", "resourceUsage")
}
FORMATS = {
    ".cff": "application/yaml", ".csv": "text/csv", ".jsonl": "application/jsonl",
    ".md": "text/markdown", ".png": "image/png", ".svg": "image/svg+xml",
    ".tex": "application/x-tex", ".yaml": "application/yaml",
}  # fmt: skip
Ref = dict[str, str]  # {"@id": ...}


class Graph:
    def __init__(self) -> None:
        try:
            from rocrate.rocrate import ROCrate
        except ImportError:
            raise UserError(
                "repro export-crate needs the library rocrate: pip install rocrate"
            ) from None
        self.crate: Any = ROCrate(version=RO_CRATE)
        self.crate.metadata.extra_terms.update(TERMS)

    def entity(self, identity: str, kind: str, **properties: Any) -> Ref:
        """Properties that are lists of one are told as that one, as RO-Crate has it."""
        known = self.crate.get(identity)
        if known is None:
            plain = {name: single(value) for name, value in properties.items()}
            self.crate.add_jsonld({"@id": identity, "@type": kind, **plain})
        assert known is None or known.type == kind, f"two entities are called {identity}"
        return {"@id": identity}

    def value(self, name: str, value: object) -> Ref:
        """A setting, as one of schema.org's PropertyValues."""
        identity = fragment(f"{name}-{value}")
        return self.entity(identity, "PropertyValue", name=name, value=value)

    def file(self, source: Path, place: str, description: str) -> None:
        content = source.read_bytes()
        about = {
            "name": place,
            "encodingFormat": FORMATS.get(source.suffix, "text/plain"),
            "contentSize": str(len(content)),
            "sha256": hashlib.sha256(content).hexdigest(),
            **({"description": description} if description else {}),
        }
        self.crate.add_file(str(source), place, properties=about)


def fragment(text: str) -> str:
    """The name of an entity that stands in the crate alone."""
    return f"#{quote(text.replace(' ', '-'), safe='')}"


def moment(seconds: float) -> str:
    """ISO 8601, of seconds since 1970."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def single(values: Any) -> Any:
    """The only item of a list that has one."""
    return values[0] if isinstance(values, list) and len(values) == 1 else values
