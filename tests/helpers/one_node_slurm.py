"""A SLURM of one node, of Debian's packages slurm-wlm and munge, run by whoever runs the tests."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from getpass import getuser
from pathlib import Path

#: Without accounting and control groups. A job that is queued again waits for
#: ``cred_expire``, of which SLURM takes no less.
SETTINGS = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={control_port}
SlurmdPort={node_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
ReturnToService=2
SchedulerParameters=batch_sched_delay=0,sched_interval=1
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
KillWait=10
NodeName=node NodeHostname={host} NodeAddr=127.0.0.1 CPUs=2
PartitionName=all Nodes=node Default=YES State=UP
"""

#: Seconds for SLURM to start, and for what it runs to end.
STARTING_S, ENDING_S = 20, 30

#: Where Debian has the daemons, which the PATH of a user may lack.
SYSTEM = "/usr/sbin"


class NoSlurm(Exception):
    """SLURM is not installed or does not start; says why."""


@dataclass(frozen=True, slots=True)
class Slurm:
    """``environment``: with it, the commands of SLURM find this one."""

    folder: Path
    environment: dict[str, str]

    def ask(self, *words: str) -> str:
        """What a command of SLURM prints."""
        return subprocess.run(
            words, env=self.environment, capture_output=True, text=True, timeout=30, check=True
        ).stdout

    def jobs(self) -> dict[str, tuple[str, str]]:
        """Job in the queue -> its state, and how often it was started again."""
        rows = self.ask("squeue", "--array", "--noheader", "--format=%i %T").splitlines()
        found = {}
        for job, state in map(str.split, rows):
            facts = self.ask("scontrol", "show", "job", job, "--oneliner").split()
            (restarts,) = (fact for fact in facts if fact.startswith("Restarts="))
            found[job] = (state, restarts.removeprefix("Restarts="))
        return found


@contextmanager
def one_node_slurm(folder: Path) -> Iterator[Slurm]:
    """Start SLURM in ``folder``; all that runs in it has ended afterwards.

    Raises:
        NoSlurm: it is not installed or does not start.
    """
    path = f"{os.environ['PATH']}:{SYSTEM}"
    programs = {name: shutil.which(name, path=path) for name in ("munged", "slurmctld", "slurmd")}
    if lacking := [name for name, program in programs.items() if program is None]:
        raise NoSlurm(f"{lacking[0]} is not installed (apt-get install slurm-wlm munge)")
    _configure(folder)
    slurm = Slurm(folder, {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")})
    daemons: list[subprocess.Popen[bytes]] = []
    try:
        _start(slurm, daemons, programs)
        yield slurm
    finally:
        _end_jobs(slurm)
        for daemon in reversed(daemons):
            daemon.terminate()
            with suppress(subprocess.TimeoutExpired):
                daemon.wait(ENDING_S)
            daemon.kill()
            daemon.wait()
        _kill_leftovers(slurm)


def _configure(folder: Path) -> None:
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True)
    (folder / "munge.key").write_bytes(os.urandom(128))
    (folder / "munge.key").chmod(0o400)
    (folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")  # else it asks systemd
    text = SETTINGS.format(
        host=socket.gethostname().partition(".")[0],
        user=getuser(),
        folder=folder,
        control_port=_free_port(),
        node_port=_free_port(),
    )
    (folder / "slurm.conf").write_text(text)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _start(slurm: Slurm, daemons: list[subprocess.Popen[bytes]], programs: dict[str, str]) -> None:
    folder = slurm.folder
    files = ("socket", "key", "pid", "log", "seed")
    munge = [
        f"--{'socket' if name == 'socket' else f'{name}-file'}={folder}/munge.{name}"
        for name in files
    ]
    for name, words in (
        ("munged", ("--foreground", "--force", *munge)),
        ("slurmctld", ("-D",)),
        ("slurmd", ("-D", "-N", "node")),
    ):
        with (folder / f"{name}.out").open("wb") as said:
            daemons.append(
                subprocess.Popen(
                    [programs[name], *words],
                    env=slurm.environment,
                    stdout=said,
                    stderr=subprocess.STDOUT,
                )
            )
        _wait(slurm, daemons[-1], name)


def _wait(slurm: Slurm, daemon: subprocess.Popen[bytes], name: str) -> None:
    """Until the daemon does its work."""
    late = time.monotonic() + STARTING_S
    while not _works(slurm, name):
        if daemon.poll() is not None or time.monotonic() > late:
            said = (slurm.folder / f"{name}.out").read_text(errors="replace").splitlines()
            raise NoSlurm(f"{name} does not start: {said[-1] if said else 'it says nothing'}")
        time.sleep(0.1)


def _works(slurm: Slurm, name: str) -> bool:
    if name == "munged":
        return (slurm.folder / "munge.socket").is_socket()
    try:
        state = slurm.ask("sinfo", "--noheader", "--format=%T").strip()
    except (OSError, subprocess.SubprocessError):
        return False
    return name == "slurmctld" or state == "idle"


def _end_jobs(slurm: Slurm) -> None:
    with suppress(OSError, subprocess.SubprocessError):
        late = time.monotonic() + ENDING_S
        while (jobs := slurm.jobs()) and time.monotonic() < late:
            slurm.ask("scancel", *jobs)
            time.sleep(0.5)


def _kill_leftovers(slurm: Slurm) -> None:
    """What jobs have left, if they did not end: it outlives the daemons, and knows its SLURM."""
    mark = f"SLURM_CONF={slurm.folder}/slurm.conf".encode()
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            started_with = (process / "environ").read_bytes().split(b"\0")
            of_a_job = any(name.startswith(b"SLURM_JOB_ID=") for name in started_with)
            if mark in started_with and (of_a_job or _is_step(process)):
                os.kill(int(process.name), signal.SIGKILL)


def _is_step(process: Path) -> bool:
    return b"slurmstepd" in (process / "cmdline").read_bytes()
