"""`python validator.py CRATE SEVERITY`: what roc-validator finds in a crate, as JSON.

Run by a Python that has `requirements.txt`, and without network.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import requests
import rocrate
from rocrate_validator.models import Severity, ValidationSettings
from rocrate_validator.services import validate
from rocrate_validator.utils.http import HttpRequester

PROFILE = "process-run-crate"
CONTEXT = "https://w3id.org/ro/crate/1.1/context"


def get(_: HttpRequester, url: str, **__: Any) -> requests.Response:
    """In the network's place."""
    response = requests.Response()
    response.url, response.status_code = url, 404
    if url == CONTEXT:
        response.status_code = 200
        response.headers["Content-Type"] = "application/ld+json"
        file = Path(rocrate.__file__).parent / "data" / "ro-crate.jsonld"
        response._content = file.read_bytes()
    return response


HttpRequester.get = get
settings = ValidationSettings(
    rocrate_uri=sys.argv[1],
    profile_identifier=PROFILE,
    requirement_severity=Severity[sys.argv[2]],
)
issues = validate(settings).get_issues()
print(json.dumps([[one.severity.name, one.check.name, one.message] for one in issues]))
