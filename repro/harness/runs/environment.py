"""What a number may depend on besides the config: versions, code and hardware (env.json), as a run
notes it and as its record says it.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta, Struct

from repro.errors import UserError
from repro.files import read_json
from repro.hardware import cpu_model
from repro.harness import package, shipped
from repro.harness.runs import variables

PACKAGES = ("torch", "torchvision", "timm", "numpy")


def holds(what: str) -> Meta:
    """The description of a key."""
    return Meta(description=what)


class Hardware(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The machine of a run or an evaluation."""

    cores: Annotated[int | None, holds("of the machine")]
    cpu: Annotated[str | None, holds("name of the processor")]
    gpu: Annotated[str | None, holds("name of the GPU; null on a CPU")]
    mps: Annotated[
        bool | None, holds("where runs shared it: side by side through MPS, or in turns")
    ] = None
    ranks: Annotated[int | None, holds("processes that shared each batch, where several did")] = (
        None
    )
    runs_a_gpu: Annotated[int | None, holds("runs that shared the GPU, where several did")] = None
    threads: Annotated[int, holds("of a process")]


class DataDigests(Struct, frozen=True, kw_only=True):
    """The images that a run really had; its config names them."""

    test: Annotated[str, holds("as `env.data.train`, of the test images")]
    train: Annotated[
        str,
        holds(
            "digest of the training images: labels and pixels, where they are files labels, names, "
            "4,096 sizes and 64 contents; missing before it existed"
        ),
    ]


class Environment(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a number may depend on besides the config."""

    cuda: Annotated[
        dict[str, Any] | None,
        holds("driver, runtime and cuDNN, the card's capability and memory, whether TF32 was on"),
    ] = None
    data: DataDigests | None = None
    dirty: Annotated[bool | None, holds("whether `repro/` had uncommitted changes")] = None
    git_sha: Annotated[str | None, holds("commit of the code")] = None
    hardware: Hardware | None = None
    kernels: Annotated[
        dict[str, Any] | None,
        holds(
            "`path` that ran, reference or fast, and the kernel chosen for linear layers and "
            "attention; missing before it existed: all of it torch's"
        ),
    ] = None
    im_s: Annotated[
        str | None,
        holds(
            "what `im_s` is the speed of; missing where it was that of the path that ran, whose "
            "last block may have computed [CLS] alone"
        ),
    ] = None
    numpy: Annotated[str | None, holds("version")] = None
    platform: Annotated[str | None, holds("operating system")] = None
    python: Annotated[str | None, holds("version")] = None
    timm: Annotated[str | None, holds("version")] = None
    torch: Annotated[str | None, holds("version")] = None
    torchvision: Annotated[str | None, holds("version")] = None

    @property
    def committed(self) -> bool:
        """Whether the code can be checked out again."""
        return bool(self.git_sha) and not self.dirty


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
            **(_shared_gpu() if device == "cuda" else {}),
        },
        **({"cuda": gpu.description(torch.device(device))} if device == "cuda" else {}),
    }


def _shared_gpu() -> dict[str, Any]:
    """How many runs shared the GPU, which speeds depend on; nothing where one had it alone."""
    runs = variables.RUNS_A_GPU.read()
    mps = bool(os.environ.get("CUDA_MPS_PIPE_DIRECTORY"))
    return {"runs_a_gpu": runs, "mps": mps} if runs > 1 else {}


CHECK = "check"  # the key of code.json's digest of itself
CODE = "code.json"
UNKNOWN: dict[str, Any] = {"git_sha": None, "dirty": False, "diff": None}


@cache
def code_version() -> dict[str, Any]:
    """{git_sha, dirty, diff} of this code; of a copy without git, what its code.json says.

    Asked once a process: what was imported stays, whatever is edited or committed since. Where
    code.json has a digest and the code is another, or git knows the folder but not this code (an
    environment inside somebody's own repository), nothing is known.

    Raises:
        UserError: code.json cannot be read, or is not what was written.
    """
    installed = shipped().is_dir()
    folder, again = (shipped(), "install") if installed else (package().parent, "submit")
    file = folder / CODE
    copied = read_json(file)
    if copied is not None:
        if not isinstance(copied, dict):
            raise UserError(f"{file}: damaged: not a JSON object; {again} again")
        check = copied.pop(CHECK, None)
        if check is not None and check != with_check(copied)[CHECK]:
            raise UserError(f"{file}: damaged: not what was written, by its check; {again} again")
        digest = copied.pop("digest", None)
        known = digest is None or digest == digest_of(package_contents())
        return copied if known else UNKNOWN
    if installed or _git("ls-files", "--error-unmatch", "repro/__init__.py") is None:
        return UNKNOWN
    return {
        "git_sha": _git("rev-parse", "HEAD"),
        "dirty": bool(_git("status", "--porcelain", "--", "repro")),
        "diff": _git("diff", "HEAD", "--", "repro"),
    }


def with_check(code: dict[str, Any]) -> dict[str, Any]:
    """What code.json says, with a digest of it; its key `digest` is that of the code."""
    said = json.dumps(code, sort_keys=True).encode()
    return code | {CHECK: hashlib.blake2b(said, digest_size=8).hexdigest()}


def package_contents(folder: Path | None = None) -> dict[str, bytes]:
    """The code of this package, or of another copy of it, by paths that begin with its name."""
    folder = folder or package()
    apart = {"__pycache__", shipped().name}
    files = [p.relative_to(folder.parent) for p in folder.rglob("*") if p.is_file()]
    names = {p.as_posix(): folder.parent / p for p in files if not apart.intersection(p.parts)}
    return {name: names[name].read_bytes() for name in sorted(names)}


def digest_of(contents: dict[str, bytes]) -> str:
    digest = hashlib.sha256()
    for name, content in contents.items():
        digest.update(f"{name} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def _git(*arguments: str) -> str | None:
    # Without optional locks: runs start while somebody commits.
    command = ["git", "--no-optional-locks", "-C", str(package().parent), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.rstrip()
    except (OSError, subprocess.CalledProcessError):
        return None
