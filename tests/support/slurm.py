"""A SLURM cluster of one node on this machine: its own keys, ports and folders, no systemd and no control groups."""

import contextlib
import getpass
import os
import secrets
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from complete import wait_for

PROGRAMS = ("setpriv", "munged", "slurmctld", "slurmd", "sbatch")
NODE = "node"
# The node has more cores than the machine may have, so that the tests queue and share alike everywhere.
CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=1,bf_interval=1
OverTimeLimit=0
KillWait=5
GresTypes=gpu
NodeName={node} Gres=gpu:{cores} NodeHostname={host} NodeAddr=127.0.0.1 CPUs={cores} RealMemory=64000
PartitionName=all Nodes={node} Default=YES MaxTime=INFINITE State=UP
"""


class Cluster:
    """The cluster's commands, and the environment in which SLURM's programs find it."""

    def __init__(self, folder: Path):
        self.environment = os.environ | {"SLURM_CONF": str(folder / "slurm.conf")}

    def call(self, *words: Any) -> str:
        """The output of one of SLURM's programs."""
        done = subprocess.run(map(str, words), env=self.environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{words}: {done.stderr}"
        return done.stdout

    def jobs(self, *options: str) -> list[str]:
        """The ids of the jobs in the queue that these options of `squeue` choose."""
        return self.call("squeue", "--noheader", "--format=%i", *options).split()


def missing() -> str:
    """The programs that are not installed here, in words; empty if a cluster can be started."""
    return ", ".join(name for name in PROGRAMS if shutil.which(name, path=_path()) is None)


@contextlib.contextmanager
def cluster(folder: Path, cores: int) -> Iterator[Cluster]:
    """A cluster in `folder` whose node has so many cores; its jobs and daemons end with the block."""
    text = CONFIGURATION.format(
        folder=folder, host=socket.gethostname().split(".")[0], user=getpass.getuser(), ports=_ports(2), node=NODE,
        cores=cores,
    )  # fmt: skip
    (folder / "slurm.conf").write_text(text)
    (folder / "cgroup.conf").write_text("CgroupPlugin=disabled\n")
    for card in range(cores):  # no GPU, but something that SLURM hands out as one
        (folder / f"gpu{card}").touch()
    (folder / "gres.conf").write_text(f"Name=gpu File={folder}/gpu[0-{cores - 1}]\n")
    key = folder / "munge.key"
    key.touch(0o600)
    key.write_bytes(secrets.token_bytes(128))
    (folder / "state").mkdir()
    (folder / "spool").mkdir()
    own = Cluster(folder)
    files = {"--key-file": key, "--socket": folder / "munge.socket", "--pid-file": folder / "munge.pid"}
    files |= {"--log-file": folder / "munge.log", "--seed-file": folder / "munge.seed"}
    munge = [f"{option}={path}" for option, path in files.items()]
    with contextlib.ExitStack() as daemons:
        for words in (
            ["munged", "--foreground", "--force", *munge],
            ["slurmctld", "-D", "-i", "-c"],
            ["slurmd", "-D", "-N", NODE],
        ):
            daemons.enter_context(_daemon(words, folder / f"{words[0]}.out", own.environment))
            if words[0] == "munged":
                wait_for((folder / "munge.socket").exists)
        wait_for(lambda: _answers(own))
        try:
            yield own
        finally:
            own.call("scancel", "--user", getpass.getuser())
            wait_for(lambda: not own.jobs())


@contextlib.contextmanager
def _daemon(words: list[str], log: Path, environment: dict[str, str]) -> Iterator[None]:
    with log.open("wb") as stream:
        path = shutil.which(words[0], path=_path())
        # Ctrl-C is for the tests, which then end the jobs and the daemons; if they are killed, the daemons end too.
        words = ["setpriv", "--pdeathsig", "TERM", path, *words[1:]]
        process = subprocess.Popen(words, env=environment, stdout=stream, stderr=stream, start_new_session=True)
        try:
            yield
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(30)
            process.kill()
            process.wait()


def _answers(own: Cluster) -> bool:
    done = subprocess.run(["sinfo", "--noheader", "--format=%T"], env=own.environment, capture_output=True, text=True)
    return done.stdout.strip() == "idle"


def _ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [one.getsockname()[1] for one in sockets]


def _path() -> str:
    """Where daemons are installed too: a user's path often leaves those folders out."""
    return os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/sbin"])
