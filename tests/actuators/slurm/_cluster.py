"""A real Slurm of eight virtual nodes on this machine: munge, controller and daemons, all in one folder of its own.

Ports are free ones and only the processes started here are ended, so that two can run at once.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import random
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

NODES = tuple(f"n{at}" for at in range(1, 9))
NEEDED = ("munged", "slurmctld", "slurmd", "scontrol", "sinfo", "squeue", "srun", "sbatch", "scancel")
CREDENTIAL_S = 30  # how long a requeued job waits by itself; two minutes by default
START_S, STOP_S, TRIES = 15.0, 5.0, 3
PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
CONF = """
ClusterName=skewlab
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire={credential_s}
AuthAltTypes=auth/jwt
AuthAltParameters=jwt_key={folder}/jwt.key
CommunicationParameters=NoAddrCache
StateSaveLocation={folder}/ctld
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
SwitchType=switch/none
MpiDefault=none
ProctrackType=proctrack/pgid
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
TopologyPlugin=topology/tree
GresTypes=gpu
ReturnToService=1
SlurmctldTimeout=30
SlurmdTimeout=30
SlurmdParameters=config_overrides
KillWait=1
MinJobAge=300
InactiveLimit=0
{health}
PartitionName=batch Nodes=n[1-8] Default=YES MaxTime=INFINITE State=UP
"""
NODE = "NodeName={name} NodeHostName={host} NodeAddr=127.0.0.1 Port={port} CPUs=4 RealMemory=1000 Gres=gpu:h100:8 Feature=h100,{rack} Weight=10 State=UNKNOWN\n"  # noqa: E501
TOPOLOGY = "SwitchName=leaf1 Nodes=n[1-4]\nSwitchName=leaf2 Nodes=n[5-8]\nSwitchName=spine Switches=leaf[1-2]\n"
GRES = "NodeName=n[1-8] Name=gpu Type=h100 File=/dev/tty[0-7]\n"  # counted only, never opened


def missing() -> str:
    """Return why no Slurm can be started here, "" where one can."""
    absent = [name for name in NEEDED if shutil.which(name, path=PATH) is None]
    return f"no Slurm here: {', '.join(absent)} missing" if absent else ""


def free_ports(count: int) -> list[int]:
    """Return ports that are free now, below those that outgoing connections take."""
    found: list[int] = []
    while len(found) < count:
        port = random.SystemRandom().randrange(18000, 32000)
        with socket.socket() as one, contextlib.suppress(OSError):
            one.bind(("127.0.0.1", port))
            found += [port] * (port not in found)
    return found


def until(what: Callable[[], object], most_s: float = 20.0, pause_s: float = 0.1):
    """Return the first true value of a function; fails after so long."""
    end_s = time.monotonic() + most_s
    while not (value := what()):
        assert time.monotonic() < end_s, f"not within {most_s} s"
        time.sleep(pause_s)
    return value


class Cluster:
    """The running cluster; `folder` holds its configuration, state, logs and the files of jobs."""

    def __init__(self, health: str = "") -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="skewslurm-"))
        self.folder.chmod(0o755)
        self.user = getpass.getuser()
        self.conf = self.folder / "slurm.conf"
        self.health = health.format(folder=self.folder)
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Start everything; tries again where a port was taken in between."""
        for left in reversed(range(TRIES)):
            self._write()
            self._start()
            try:
                return until(lambda: len(self.ready()) == len(NODES), START_S)
            except AssertionError:
                self.stop()
                if not left:
                    raise

    def stop(self) -> None:
        """End the jobs, then the processes that were started here, and wait for them."""
        with contextlib.suppress(AssertionError, subprocess.SubprocessError):
            self.run("scancel", "--user", self.user, check=False)
            until(lambda: not self.run("squeue", "-h", check=False), STOP_S)
        for one in reversed(self._processes):
            one.terminate()
        for one in self._processes:
            try:
                one.wait(STOP_S)
            except subprocess.TimeoutExpired:
                one.kill()
                one.wait()
        self._processes.clear()

    def run(self, *words: str, check: bool = True, most_s: float = 30.0, **env: str) -> str:
        """Return what one of Slurm's programs writes."""
        place = os.environ | {"PATH": PATH, "SLURM_CONF": str(self.conf)} | env
        done = subprocess.run(words, env=place, capture_output=True, text=True, timeout=most_s, cwd=self.folder)
        assert not check or not done.returncode, f"{words}: {done.stderr}"
        return done.stdout.strip()

    def scontrol(self, *words: str) -> str:
        return self.run("scontrol", *words)

    def ready(self) -> list[str]:
        return self.run("sinfo", "-h", "-N", "-t", "idle", "-o", "%N", check=False).split()

    def node(self, name: str) -> dict:
        """Return what Slurm says of one node, in the words of 22.05."""
        return next(one for one in self.nodes() if one["name"] == name)

    def nodes(self) -> list[dict]:
        return json.loads(self.run("sinfo", "--json", check=False) or '{"nodes": []}')["nodes"]

    def submit(self, script: str, *options: str, **env: str) -> str:
        """Submit a batch script; return the id of the job."""
        path = self.folder / f"job-{time.monotonic_ns()}.sh"
        path.write_text(f"#!/bin/bash\n{script}\n")
        output = f"--output={self.folder}/%j.out"
        return self.run("sbatch", "--parsable", output, "--open-mode=append", *options, str(path), **env)

    def job(self, number: str) -> dict[str, str]:
        """Return the fields of one job."""
        told = self.run("scontrol", "-o", "show", "job", number).split(" ")
        return dict(word.split("=", 1) for word in told if "=" in word)

    def wait_for(self, number: str, state: str, most_s: float = 20.0) -> dict[str, str]:
        """Wait until a job has a state."""
        until(lambda: self.job(number)["JobState"] == state, most_s)
        return self.job(number)

    def restart_controller(self) -> None:
        """End the controller and start it again on the state that it saved."""
        at = next(at for at, one in enumerate(self._processes) if "slurmctld" in one.args)
        self._processes[at].terminate()
        self._processes[at].wait(STOP_S * 2)
        self._processes[at] = self._spawn("slurmctld", "-D", "-f", str(self.conf))
        until(lambda: self.run("scontrol", "ping", check=False).endswith("UP"), START_S)
        until(lambda: all(one["state"] != "unknown" for one in self.nodes()), START_S)

    def _spawn(self, *words: str) -> subprocess.Popen[bytes]:
        with open(self.folder / "daemons.log", "ab") as log:
            env = os.environ | {"PATH": PATH, "SLURM_CONF": str(self.conf)}
            tied = ("setpriv", "--pdeathsig", "TERM") if shutil.which("setpriv") else ()
            return subprocess.Popen([*tied, *words], env=env, stdout=log, stderr=log, start_new_session=True)

    def _start(self) -> None:
        where = self.folder
        munge = [f"--socket={where}/munge.socket", f"--key-file={where}/munge.key", f"--pid-file={where}/munged.pid",
                 f"--log-file={where}/munged.log", f"--seed-file={where}/munge.seed"]  # fmt: skip
        self._processes.append(self._spawn("munged", "--foreground", "--force", *munge))
        until((where / "munge.socket").exists, START_S, 0.02)
        self._processes.append(self._spawn("slurmctld", "-D", "-c", "-f", str(self.conf)))
        for name in NODES:
            self._processes.append(self._spawn("slurmd", "-D", "-N", name, "-f", str(self.conf)))

    def _write(self) -> None:
        host = socket.gethostname().split(".")[0]
        first, *ports = free_ports(len(NODES) + 1)
        nodes = "".join(
            NODE.format(name=name, host=host, port=port, rack=f"rack{1 + at // 4}")
            for at, (name, port) in enumerate(zip(NODES, ports, strict=True))
        )
        text = CONF.format(folder=self.folder, host=host, port=first, user=self.user, health=self.health,
                           credential_s=CREDENTIAL_S)  # fmt: skip
        self.conf.write_text(text + nodes)
        (self.folder / "topology.conf").write_text(TOPOLOGY)
        (self.folder / "gres.conf").write_text(GRES)
        (self.folder / "ctld").mkdir(exist_ok=True)
        for name, size in (("munge.key", 1024), ("jwt.key", 32)):
            (self.folder / name).unlink(missing_ok=True)
            (self.folder / name).write_bytes(os.urandom(size))
            (self.folder / name).chmod(0o400)


def running(health: str = "") -> Iterator[Cluster]:
    """Yield a cluster that runs; skips the test where there is no Slurm."""
    if reason := missing():
        pytest.skip(reason)
    cluster = Cluster(health)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(cluster.folder, ignore_errors=True)
