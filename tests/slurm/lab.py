"""A private Slurm on this machine: real daemons, several nodes, no system service, no accounting database."""

from __future__ import annotations

import contextlib
import os
import pwd
import random
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from tests.patience import PATIENCE, until

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol", "scancel")
SYSTEM_FOLDERS = ("/usr/sbin", "/sbin")
"""Daemons live here, which is not on the path of ordinary users."""

START_SECONDS = 120
END_SECONDS = 60
ATTEMPTS = 3
"""At finding ports that nobody else takes meanwhile."""

PORTS = range(20_000, 30_000)
"""Below those that Linux hands out by itself."""

CONFIGURATION = """\
ClusterName=lab
SlurmctldHost={host}({address})
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
CommunicationParameters={listening}

AuthType=auth/munge
CredType=cred/munge
# the life of a credential, 5 s at least, is also how long a requeued job waits
AuthInfo=socket={folder}/munge/socket,cred_expire=5

StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
TmpFS={folder}/tmp/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/log/slurmctld
SlurmdLogFile={folder}/log/slurmd-%n

ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SwitchType=switch/none
MpiDefault=none
PropagateResourceLimits=NONE
# processors are counted as told, not as there are
SlurmdParameters=config_overrides

SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,sched_interval=1,sched_min_interval=0,batch_sched_delay=0
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
PriorityType=priority/basic
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
JobRequeue=1
ReturnToService=2
KillWait=5
MessageTimeout=20
TCPTimeout=5
SlurmctldTimeout=60
SlurmdTimeout={silence}
# squeue is the only one to ask how a job ended
MinJobAge=600

NodeName=n[1-{nodes}] NodeHostname={host} NodeAddr={address} Port={node_ports} CPUs={cpus} RealMemory=2000
PartitionName=main Nodes=ALL Default=YES PriorityTier=10  PreemptMode=OFF
PartitionName=low  Nodes=ALL             PriorityTier=1   PreemptMode=REQUEUE GraceTime=0
PartitionName=high Nodes=ALL             PriorityTier=100 PreemptMode=OFF
"""

NO_CGROUPS = "CgroupPlugin=cgroup/v1\nCgroupAutomount=no\n"
"""Without this file slurmd looks for a tree of control groups that containers rarely have."""


GUARD = """
import os, pathlib, signal, sys, time
sys.stdin.read()
for _ in range(50):
    left = False
    for place in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if sys.argv[1].encode() in (place / "environ").read_bytes().split(b"\\0"):
                os.kill(int(place.name), signal.SIGKILL)
                left = True
        except OSError:
            pass
    if not left:
        break
    time.sleep(0.1)
"""
"""Waits for the end of the process that started it, however it ends, and then ends all that has its SLURM_CONF."""


class LabError(Exception):
    """Slurm could not be started here, and why."""


def missing_programs() -> tuple[str, ...]:
    """Programs of Slurm that are not installed."""
    return tuple(name for name in PROGRAMS if program(name) is None)


def program(name: str) -> str | None:
    """Where a program is, also one for administrators."""
    return shutil.which(name, path=os.pathsep.join((os.environ.get("PATH", ""), *SYSTEM_FOLDERS)))


def own_address() -> tuple[str, str]:
    """The host's short name, and the address that it resolves to, at which Slurm listens.

    It is a loopback address on most machines, and in containers often the container's own; munge keeps others out.
    """
    host = socket.gethostname().partition(".")[0]
    try:
        address = socket.gethostbyname(host)
    except OSError:
        raise LabError(
            f"Slurm listens at the address of the host name, and {host} has none: add '127.0.0.1 {host}' to /etc/hosts"
        ) from None
    if not _is_free(address, 0):
        raise LabError(
            f"Slurm listens at the address of the host name, but {host} resolves to {address}, which is not of this "
            f"machine: put '127.0.0.1 {host}' into /etc/hosts before other lines with that name"
        )
    return host, address


class Lab:
    """A Slurm of `nodes` nodes with `cpus` processors each, real or not, in `folder`; `silence`: seconds without a
    word from a node after which it is down. Partitions: main; low, whose jobs are requeued for those of high."""

    def __init__(self, folder: Path, *, nodes: int = 2, cpus: int = 4, silence: int = 60) -> None:
        self.folder = folder
        self.nodes = tuple(f"n{number}" for number in range(1, nodes + 1))
        self.cpus = cpus
        self.silence = silence
        self.port = 0
        self.daemons: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def environment(self) -> dict[str, str]:
        """What clients need to find this Slurm rather than another."""
        return {"SLURM_CONF": str(self.folder / "slurm.conf")}

    def __enter__(self) -> Lab:
        self._guard = subprocess.Popen(
            [sys.executable, "-c", GUARD, self._mark], stdin=subprocess.PIPE, start_new_session=True, cwd="/"
        )
        try:
            self._start()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def ask(self, *command: object) -> str:
        """What a command prints that must succeed."""
        done = subprocess.run(
            [str(part) for part in command],
            env={**os.environ, **self.environment}, capture_output=True, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}: exit code {done.returncode}: {done.stderr or done.stdout}"
        return done.stdout

    def until(self, true: Callable[[], object]) -> None:
        """Wait until something is true; if it never is, show the queue and the end of the controller's log."""
        until(true, self.state, pause=0.1)

    def state(self) -> str:
        """Queue, nodes and logs, for people who look for the cause of a failure."""
        parts = []
        for command in (("squeue", "-a", "-r", "-t", "all"), ("sinfo", "-N", "-l")):
            with contextlib.suppress(AssertionError, subprocess.TimeoutExpired):
                parts.append(self.ask(*command))
        for log in sorted((self.folder / "log").iterdir()):
            lines = log.read_text(errors="replace").splitlines()[-8:]
            parts.append("\n".join((f"--- {log.name}", *lines)))
        return "\n".join(parts)

    def start_node(self, name: str) -> None:
        """Start the daemon of a node, for the first time or again."""
        self._start_daemon(name, "slurmd", "-D", "-N", name, "-f", self.environment["SLURM_CONF"])

    def kill_node(self, name: str) -> None:
        """End the daemon of a node without giving it time to end its jobs: their processes live on."""
        self.daemons[name].kill()
        self.daemons[name].wait()

    def nodes_up(self) -> int:
        """How many nodes take jobs."""
        states = self.ask("sinfo", "-h", "-N", "-p", "main", "-o", "%T").split()
        return sum(state in ("idle", "mixed", "allocated") for state in states)

    def set_node(self, name: str, state: str) -> None:
        """What an administrator does to a node: drain, down, resume."""
        self.ask("scontrol", "update", f"nodename={name}", f"state={state}", "reason=test")

    def mend(self) -> None:
        """Bring all nodes back, whatever was done to them."""
        for name in self.nodes:
            if self.daemons[name].poll() is not None:
                self.start_node(name)
            with contextlib.suppress(AssertionError):  # those that are well cannot be resumed
                self.set_node(name, "resume")
        self.until(lambda: self.nodes_up() == len(self.nodes))

    def clear(self) -> None:
        """Cancel all jobs and wait until they have gone."""
        self.ask("scancel", "--user", _user())
        self.until(lambda: not self.ask("squeue", "-h", "-a"))

    def _start(self) -> None:
        if missing := missing_programs():
            raise LabError(f"not installed: {', '.join(missing)}")
        host, address = own_address()
        for name in (
            "munge",
            "state",
            "log",
            *(f"{kind}/{node}" for kind in ("spool", "tmp") for node in self.nodes),
        ):
            (self.folder / name).mkdir(parents=True)
        self.folder.chmod(0o755)
        (self.folder / "munge").chmod(0o755)
        key = self.folder / "munge" / "key"
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(1024))
        self._start_munge()
        for attempt in range(ATTEMPTS):
            self.port = _free_ports(address, len(self.nodes) + 1)
            self._configure(host, address)
            self._start_daemon("slurmctld", "slurmctld", "-D", "-f", self.environment["SLURM_CONF"])
            for node in self.nodes:
                self.start_node(node)
            if self._all_up():
                return
            if attempt < ATTEMPTS - 1:
                self._end_daemons([name for name in self.daemons if name != "munged"])
        raise LabError(f"Slurm does not come up\n{self.state()}")

    def _start_munge(self) -> None:
        place = self.folder / "munge"
        self._start_daemon(
            "munged", "munged", "--foreground", "--force", f"--socket={place}/socket", f"--key-file={place}/key",
            f"--pid-file={place}/pid", f"--seed-file={place}/seed", f"--log-file={self.folder}/log/munged",
        )  # fmt: skip

    def _configure(self, host: str, address: str) -> None:
        """All listen at `address` alone, unless that is another loopback address than 127.0.0.1: srun is called back
        where it calls from, which is 127.0.0.1 then, and programs in jobs share the configuration of the nodes."""
        first, last = self.port + 1, self.port + len(self.nodes)
        heard = not address.startswith("127.") or address == "127.0.0.1"
        text = CONFIGURATION.format(
            host=host, address=address, port=self.port, user=_user(), folder=self.folder, silence=self.silence,
            nodes=len(self.nodes), cpus=self.cpus, node_ports=first if first == last else f"[{first}-{last}]",
            listening="NoCtldInAddrAny,NoInAddrAny" if heard else "NoCtldInAddrAny",
        )  # fmt: skip
        Path(self.environment["SLURM_CONF"]).write_text(text)
        (self.folder / "cgroup.conf").write_text(NO_CGROUPS)

    def _start_daemon(self, name: str, *command: str) -> None:
        """In the foreground, in a session of its own, so that Ctrl-C leaves it to `_end`."""
        found = program(command[0])
        assert found is not None
        with (self.folder / "log" / f"{name}.output").open("ab") as output:
            self.daemons[name] = subprocess.Popen(
                [found, *command[1:]],
                env={**os.environ, **self.environment}, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                start_new_session=True, cwd=self.folder,
            )  # fmt: skip

    def _all_up(self) -> bool:
        give_up = time.monotonic() + START_SECONDS
        while time.monotonic() < give_up:
            if any(daemon.poll() is not None for daemon in self.daemons.values()):
                return False
            with contextlib.suppress(AssertionError):
                if self.nodes_up() == len(self.nodes):
                    return True
            time.sleep(0.1)
        return False

    def _end(self) -> None:
        """End jobs, daemons and whatever is left of them."""
        with contextlib.suppress(AssertionError, subprocess.TimeoutExpired, OSError):
            self.clear()
        self._end_daemons(reversed(self.daemons))
        self._guard.communicate(timeout=END_SECONDS)

    def _end_daemons(self, names: Iterable[str]) -> None:
        for name in tuple(names):
            daemon = self.daemons.pop(name)
            daemon.terminate()
            try:
                daemon.wait(timeout=END_SECONDS)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()

    def processes(self) -> tuple[int, ...]:
        """Processes of jobs that are still there, by their environment."""
        found = []
        for place in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                variables = (place / "environ").read_bytes().split(b"\0")
                if self._mark.encode() in variables and any(name.startswith(b"SLURM_JOB_ID=") for name in variables):
                    found.append(int(place.name))
        return tuple(found)

    @property
    def _mark(self) -> str:
        """In the environment of all that this Slurm has started."""
        return f"SLURM_CONF={self.environment['SLURM_CONF']}"


def _user() -> str:
    return pwd.getpwuid(os.getuid()).pw_name


def _free_ports(address: str, count: int) -> int:
    """The first of `count` neighbouring ports that are free at this moment."""
    chance = random.Random(f"{os.getpid()} {time.monotonic_ns()}")
    while True:
        first = chance.randrange(PORTS.start, PORTS.stop - count)
        if all(_is_free(address, port) for port in range(first, first + count)):
            return first


def _is_free(address: str, port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True
