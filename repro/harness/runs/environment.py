"""What a number may depend on besides the config: versions, code and hardware (env.json)."""

from __future__ import annotations

import os
import platform
import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import repro
from repro.files import read_json
from repro.hardware import cpu_model

PACKAGES = ("torch", "torchvision", "timm", "numpy")


def environment(device: str) -> dict[str, Any]:
    """The content of a run's env.json; `device` is "cpu" or "cuda".

    `git_sha`, `dirty` and `diff` are of the repository this code lies in, and cover `repro/` only:
    the experiment files are in the resolved config. All three are null or false without git.
    """
    import torch

    from repro import gpu

    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        **{name: version(name) for name in PACKAGES},
        **code_version(),
        "hardware": {
            "cpu": cpu_model(),
            "cores": os.cpu_count(),
            "gpu": torch.cuda.get_device_name() if device == "cuda" else None,
            "threads": torch.get_num_threads(),
        },
        **({"cuda": gpu.description(torch.device(device))} if device == "cuda" else {}),
    }


@cache
def code_version() -> dict[str, Any]:
    """{git_sha, dirty, diff} of this code; of a submission's snapshot, as it was when copied.

    Asked once a process: what was imported stays, whatever is edited or committed since.
    """
    copied = read_json(_code_folder() / "code.json")
    return copied or {
        "git_sha": _git("rev-parse", "HEAD"),
        "dirty": bool(_git("status", "--porcelain", "--", "repro")),
        "diff": _git("diff", "HEAD", "--", "repro"),
    }


def _code_folder() -> Path:
    """What `repro` is imported from: the repository, or a submission's snapshot."""
    return Path(repro.__file__).resolve().parents[1]


def _git(*arguments: str) -> str | None:
    # Without optional locks: runs start while somebody commits.
    command = ["git", "--no-optional-locks", "-C", str(_code_folder()), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.rstrip()
    except (OSError, subprocess.CalledProcessError):
        return None
