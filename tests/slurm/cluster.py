"""A real two-node SLURM with accounting on this one host, for the tests: started, and taken down.

    python -m tests.slurm.cluster FOLDER      # until Ctrl-C; prints what to export

Everything it has lies in one scratch folder: its own munge key and socket, its own MariaDB, the
controller, the accounting daemon, and two `slurmd`, `gpu1` and `gpu2`, with two pretend GPUs each.
It needs root and Debian's packages (PACKAGES); it touches no configuration of the system. Should
the process that started it be killed, a guard ends what is left.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

PACKAGES = "slurm-wlm slurmd slurmctld slurmdbd munge mariadb-server bindfs"
PROGRAMS = ("slurmctld", "slurmd", "slurmdbd", "munged", "mariadbd", "mariadb-install-db")
NODES = ("gpu1", "gpu2")
PATIENCE = 60.0  # seconds for a daemon to answer

SLURM_CONF = """\
ClusterName=lab
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=10
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=1
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={ports[1]}
AccountingStoragePass={folder}/munge/socket
AccountingStorageTRES=gres/gpu
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
JobAcctGatherParams=OverMemoryKill
ReturnToService=1
MpiDefault=none
GresTypes=gpu
KillWait=5
MinJobAge=10
MaxArraySize=40
SlurmdParameters=config_overrides
NodeName=gpu[1-2] NodeHostname={host} NodeAddr=127.0.0.1 Port=[{ports[2]}-{ports[3]}] CPUs=4 \
RealMemory=8000 Gres=gpu:2 State=UNKNOWN
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PartitionName=debug Nodes=gpu[1-2] Default=YES MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=urgent Nodes=gpu[1-2] MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
"""

SLURMDBD_CONF = """\
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={ports[1]}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
PidFile={folder}/slurmdbd.pid
LogFile={folder}/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={ports[4]}
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm_acct
"""


def why_not() -> str:
    """Why no cluster can be started here; empty if one can."""
    missing = [name for name in PROGRAMS if _program(name) is None]
    if missing:
        return f"{', '.join(missing)} not installed: apt-get install -y {PACKAGES}"
    return "" if os.geteuid() == 0 else "its daemons need root"


@dataclass
class Cluster:
    """Daemons of one cluster, by name; `environment` makes SLURM's commands speak to it."""

    folder: Path
    daemons: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        return {"SLURM_CONF": str(self.folder / "slurm.conf")}

    def start(self) -> None:
        """Raises: RuntimeError with the end of the log of a daemon that does not answer."""
        for name in ("munge", "state", "spool/gpu1", "spool/gpu2", "mysql"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        for parent in (self.folder, *self.folder.parents):
            if parent.stat().st_uid == os.geteuid() and parent != Path("/"):
                parent.chmod(parent.stat().st_mode | 0o711)  # the database has a user of its own
        self._configure()
        self._daemon("guard", sys.executable, __file__, str(self.folder), str(os.getpid()))
        self.start_munge()
        self.start_database()
        self.start_accounting()
        self.run("sacctmgr", "-i", "add", "cluster", "lab")
        self.run("sacctmgr", "-i", "add", "account", "lab", "Cluster=lab", check=False)
        self.run("sacctmgr", "-i", "add", "user", "root", "Account=lab", check=False)
        self._daemon("slurmctld", "slurmctld", "-D", "-c", "-f", str(self.folder / "slurm.conf"))
        self._answers("slurmctld", "scontrol", "ping")
        for node in NODES:
            self._daemon(node, "slurmd", "-D", "-N", node, "-f", str(self.folder / "slurm.conf"))
        self._wait(lambda: self.run("sinfo", "-h", "-o", "%T").split() == ["idle"], NODES[0])

    def start_munge(self) -> None:
        munge = self.folder / "munge"
        munge.chmod(0o755)
        key = munge / "key"
        key.write_bytes(os.urandom(64))
        key.chmod(0o600)
        files = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log"}
        options = [f"--{option}={munge / name}" for option, name in files.items()]
        self._daemon("munge", "munged", "-F", f"--seed-file={munge}/seed", *options)
        self._wait((munge / "socket").exists, "munge")

    def start_database(self) -> None:
        data, socket_ = self.folder / "mysql" / "data", self.folder / "mysql" / "socket"
        # In a common folder the databases of two clusters remove each other's temporary tables.
        temporary = data.parent / "tmp"
        temporary.mkdir(exist_ok=True)
        for path in (data.parent, temporary):
            shutil.chown(path, "mysql", "mysql")
        common = ["--no-defaults", f"--datadir={data}", f"--tmpdir={temporary}", "--user=mysql"]
        subprocess.run(
            ["mariadb-install-db", *common, "--auth-root-authentication-method=socket"],
            check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        sql = (
            "CREATE DATABASE slurm_acct; CREATE USER slurm@'%' IDENTIFIED BY 'slurm'; "
            "GRANT ALL ON slurm_acct.* TO slurm@'%';"
        )
        self._daemon(
            "mysql", "mariadbd", *common, f"--socket={socket_}", f"--port={self._ports()[4]}",
            "--bind-address=127.0.0.1", f"--pid-file={data}/pid", "--skip-name-resolve",
        )  # fmt: skip
        self._wait(socket_.exists, "mysql")
        client = ["mariadb", "--no-defaults", f"--socket={socket_}", "-u", "root", "-e", sql]
        subprocess.run(client, check=True, stdout=subprocess.DEVNULL)

    def start_accounting(self) -> None:
        environment = {"SLURM_CONF": str(self.folder / "slurm.conf")}
        self._daemon("slurmdbd", "slurmdbd", "-D", environment=environment)
        self._answers("slurmdbd", "sacctmgr", "-n", "list", "cluster")

    def stop_daemon(self, name: str) -> None:
        process = self.daemons.pop(name)
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def stop(self) -> None:
        """End all jobs, then all daemons; the folder is the caller's to remove."""
        if "slurmctld" in self.daemons:
            with suppress(Exception):
                self.run("scancel", "--user=root", "--signal=KILL")
                self.run("scancel", "--user=root")
        for name in reversed(list(self.daemons)):
            self.stop_daemon(name)

    def run(self, *command: str, check: bool = True) -> str:
        """The output of one of SLURM's commands."""
        done = subprocess.run(
            command, env=os.environ | self.environment, capture_output=True, text=True, check=False,
            timeout=PATIENCE,
        )  # fmt: skip
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
        return done.stdout

    def _ports(self) -> list[int]:
        file = self.folder / "ports"
        if not file.exists():
            file.write_text(" ".join(map(str, free_ports())))
        return [int(port) for port in file.read_text().split()]

    def _configure(self) -> None:
        values = {
            "folder": self.folder, "host": socket.gethostname().partition(".")[0],
            "ports": self._ports(),
        }  # fmt: skip
        (self.folder / "slurm.conf").write_text(SLURM_CONF.format(**values))
        accounting = self.folder / "slurmdbd.conf"
        accounting.write_text(SLURMDBD_CONF.format(**values))
        accounting.chmod(0o600)
        # Any two character devices serve as GPUs that nobody opens.
        gres = (
            "NodeName=gpu[1-2] Name=gpu File=/dev/null\nNodeName=gpu[1-2] Name=gpu File=/dev/zero\n"
        )
        (self.folder / "gres.conf").write_text(gres)

    def _daemon(self, name: str, *command: str, environment: dict[str, str] | None = None) -> None:
        program = _program(command[0])
        assert program is not None, f"{command[0]} is not installed"
        with (self.folder / f"{name}.out").open("wb") as output:
            self.daemons[name] = subprocess.Popen(
                [program, *command[1:]],
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                env=os.environ | (environment or {}), start_new_session=True,
            )  # fmt: skip

    def _answers(self, name: str, *command: str) -> None:
        def answer() -> bool:
            done = subprocess.run(
                command, env=os.environ | self.environment, capture_output=True, check=False
            )
            return done.returncode == 0

        self._wait(answer, name)

    def _wait(self, condition: Callable[[], bool], name: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > deadline or self.daemons[name].poll() is not None:
                said = (self.folder / f"{name}.out").read_text(errors="replace")[-2000:]
                raise RuntimeError(f"{name} does not answer:\n{said}")
            time.sleep(0.2)


def guard(folder: Path, parent: int) -> None:
    """Once the parent process is gone, end daemons and jobs of the cluster in this folder."""
    while os.getppid() == parent:
        time.sleep(1)
    for number in (signal.SIGTERM, signal.SIGKILL):
        for process in processes_of(folder):
            with suppress(ProcessLookupError):
                os.kill(process, number)
        time.sleep(5)


def processes_of(folder: Path) -> set[int]:
    """Every other process whose command or environment names this folder."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            started_with = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            if os.fsencode(folder) + b"/" in started_with:
                found.add(int(entry.name))
    return found - {os.getpid()}


def free_ports() -> list[int]:
    """Five ports nobody listens on; the two of the nodes follow each other."""
    while True:
        probes = [socket.socket() for _ in range(4)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        first, second, node, database = (probe.getsockname()[1] for probe in probes)
        with socket.socket() as neighbour, suppress(OSError):
            neighbour.bind(("127.0.0.1", node + 1))
            for probe in probes:
                probe.close()
            return [first, second, node, node + 1, database]


def _program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/bin")


if __name__ == "__main__":
    if len(sys.argv) == 3:
        guard(Path(sys.argv[1]), int(sys.argv[2]))
        sys.exit()
    if len(sys.argv) != 2 or (reason := why_not()):
        sys.exit(reason if len(sys.argv) == 2 else __doc__)
    cluster = Cluster(Path(sys.argv[1]).absolute())
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background ignores it
    try:
        cluster.start()
        print(f"export SLURM_CONF={cluster.environment['SLURM_CONF']}", flush=True)
        signal.pause()
    except KeyboardInterrupt:
        pass
    finally:
        cluster.stop()
