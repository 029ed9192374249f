"""Several runs on one GPU: side by side through NVIDIA's MPS where that works, else in turns.

By itself a GPU gives each process its time in turns, and kernels of two processes never run
together. MPS makes one process of them for the card. A pool starts a control daemon of its own,
with folders of its own, which serves its workers alone and ends with it; no setting of the card is
touched. Whether that works is seen by two short processes that use the GPU through it: in
containers it often does not, and a run must never fail of it.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress

from repro.harness.runs import variables

CONTROL = "nvidia-cuda-mps-control"
LIBC = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1
START_SECONDS = 5.0
ANSWER_SECONDS = 5.0
PROBE_SECONDS = 20.0
# A context, memory and something written to it, often enough that two processes meet, by the driver
# alone: torch would take seconds.
PROBE = """
import ctypes
cuda = ctypes.CDLL("libcuda.so.1")
device, context, memory = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_uint64()
for call in (
    lambda: cuda.cuInit(0),
    lambda: cuda.cuDeviceGet(ctypes.byref(device), 0),
    lambda: cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), device),
    lambda: cuda.cuCtxSetCurrent(context),
    lambda: cuda.cuMemAlloc_v2(ctypes.byref(memory), ctypes.c_size_t(1 << 20)),
    *[
        lambda: cuda.cuMemsetD8_v2(memory, ctypes.c_ubyte(1), ctypes.c_size_t(1 << 20)),
        lambda: cuda.cuCtxSynchronize(),
    ] * 2000,
):
    if code := call():
        raise SystemExit(f"the driver says {code}")
"""


@contextmanager
def shared_cards(runs_a_gpu: int, say: Callable[[str], None]) -> Iterator[Mapping[str, str]]:
    """What workers that share GPUs have in their environment; nothing where each has its own.

    Args:
        say: takes a line that tells how they share.
    """
    if runs_a_gpu == 1:
        yield {}
        return
    shared = variables.RUNS_A_GPU.holding(runs_a_gpu)
    try:
        mps = Mps()
    except (OSError, subprocess.SubprocessError) as error:
        say(f"{runs_a_gpu} runs a GPU, in turns (no MPS: {error})")
        yield shared
        return
    say(f"{runs_a_gpu} runs a GPU, side by side (MPS)")
    try:
        yield shared | mps.environment
    finally:
        mps.close()


def _end_with_parent() -> None:
    """Also of a pool that was killed no daemon is left."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


class Mps:
    """A control daemon that has been seen to work.

    Raises:
        OSError: there is none, or it does not work here.
        subprocess.SubprocessError: it does not answer.
    """

    def __init__(self) -> None:
        program = shutil.which(CONTROL)
        if program is None or not sys.platform.startswith("linux"):
            raise OSError(f"no {CONTROL} here")
        self.program = program
        self.folder = tempfile.mkdtemp(prefix="repro-mps-")
        self.environment = {
            "CUDA_MPS_PIPE_DIRECTORY": self.folder,
            "CUDA_MPS_LOG_DIRECTORY": self.folder,
        }
        # A daemon that sees some GPUs only numbers them anew: its clients would not find theirs.
        everything = {k: v for k, v in os.environ.items() if k != "CUDA_VISIBLE_DEVICES"}
        self.daemon_environment = everything | self.environment
        self.daemon = subprocess.Popen(
            [self.program, "-f"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=self.daemon_environment,
            start_new_session=True,
            preexec_fn=_end_with_parent,  # noqa: PLW1509  it calls the kernel once, by what is loaded
        )
        try:
            self._wait_until_it_answers()
            self._probe()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End daemon and servers."""
        with suppress(OSError, subprocess.SubprocessError):
            self._ask("quit")
            self.daemon.wait(ANSWER_SECONDS)
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError, subprocess.TimeoutExpired):
                os.killpg(self.daemon.pid, number)
                self.daemon.wait(ANSWER_SECONDS)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            if self.daemon.poll() is not None:
                raise OSError(f"{CONTROL} -f ended with {self.daemon.returncode}")
            with suppress(subprocess.CalledProcessError):
                self._ask("get_server_list")
                return
            if time.monotonic() > deadline:
                raise OSError(f"{CONTROL} does not answer")
            time.sleep(0.1)

    def _probe(self) -> None:
        """Two processes use the GPU at a time, and the daemon then has a server: it was used."""
        probes = [
            subprocess.Popen(
                [sys.executable, "-c", PROBE],
                env=os.environ | self.environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
            for _ in range(2)
        ]
        try:
            for probe in probes:
                _, said = probe.communicate(timeout=PROBE_SECONDS)
                if probe.returncode:
                    words = said.strip().splitlines() or [f"it ended with {probe.returncode}"]
                    raise OSError(f"a process that tried it: {words[-1]}")
        finally:
            for probe in probes:
                probe.kill()  # and not waited for: inside a driver that hangs it does not die
        if not self._ask("get_server_list").strip():
            raise OSError("processes that tried it used the GPU without it")

    def _ask(self, command: str) -> str:
        """Raises: subprocess.SubprocessError, if it does not answer."""
        return subprocess.run(
            [self.program],
            input=command + "\n",
            env=self.daemon_environment,
            capture_output=True,
            text=True,
            timeout=ANSWER_SECONDS,
            check=True,
        ).stdout
