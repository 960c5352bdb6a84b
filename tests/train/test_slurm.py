"""Training under a real Slurm, with one machine as controller and node. Needs Debian's slurmctld, slurmd, slurm-client."""

import getpass
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

ENTRY = Path(__file__).with_name("train_entry.py")
ROOT = Path(__file__).parents[2]
FAST = (
    *("steps=60", "validation.every_steps=25", "architecture.widths=[8, 8]", "patch_voxels=[12, 16, 12]"),
    *("tile.tile_voxels=[20, 24, 20]", "checkpoint_minutes=60"),
)
PROGRAMS = ("slurmctld", "slurmd", "srun", "sbatch", "scancel", "scontrol", "sinfo")
PLACES = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
MISSING = [name for name in PROGRAMS if shutil.which(name, path=PLACES) is None]

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(
        bool(MISSING),
        reason=f"Slurm is not installed ({', '.join(MISSING)}): apt install slurmctld slurmd slurm-client",
    ),
]

CONF = """
ClusterName=loopback
SlurmctldHost={machine}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/none
CredType=cred/none
ProctrackType=proctrack/pgid
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/linear
SchedulerType=sched/builtin
ReturnToService=2
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
KillWait=60
NodeName={machine} NodeAddr=127.0.0.1 CPUs={cores} State=UNKNOWN
PartitionName=all Nodes={machine} Default=YES MaxTime=INFINITE State=UP
"""


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for opened in sockets:
        opened.bind(("127.0.0.1", 0))
    ports = [opened.getsockname()[1] for opened in sockets]
    for opened in sockets:
        opened.close()
    return ports


class Cluster:
    def __init__(self, folder):
        self.folder = folder
        self.env = {
            **{name: value for name, value in os.environ.items() if not name.startswith("SLURM_")},
            "PATH": PLACES, "SLURM_CONF": str(folder / "slurm.conf"), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT),
        }  # fmt: skip
        self._daemons = []

    def start(self):
        for name in ("state", "spool"):
            (self.folder / name).mkdir()
        machine = socket.gethostname().split(".")[0]
        conf = CONF.format(
            machine=machine,
            ports=free_ports(2),
            user=getpass.getuser(),
            folder=self.folder,
            cores=os.cpu_count(),
        )
        (self.folder / "slurm.conf").write_text(conf)
        for name in ("slurmctld", "slurmd"):
            with (self.folder / f"{name}.out").open("w") as out:
                command = [shutil.which(name, path=PLACES), "-D", "-f", str(self.folder / "slurm.conf")]
                self._daemons.append(subprocess.Popen(command, env=self.env, stdout=out, stderr=out))
        for _ in range(60):
            if self.ask("sinfo", "-h", "-o", "%T").strip() == "idle":
                return
            time.sleep(0.5)
        said = "\n".join(path.read_text() for path in self.folder.glob("slurm*.log"))
        pytest.fail(f"Slurm's node did not come up:\n{said[-3000:]}")

    def stop(self):
        self.ask("scancel", "--signal=KILL", "--full", f"--user={getpass.getuser()}")
        for daemon in reversed(self._daemons):
            daemon.terminate()
        for daemon in self._daemons:
            try:
                daemon.wait(timeout=20)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()

    def ask(self, *command):
        done = subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=60, check=False)
        return done.stdout

    def submit(self, name, *arguments):
        """A batch job that trains with two tasks; its number and the file of its output."""
        script, out = self.folder / f"{name}.sh", self.folder / f"{name}.out"
        words = " ".join(f"'{word}'" for word in (sys.executable, ENTRY, *arguments))
        script.write_text(f"#!/bin/sh\nexec srun -n 2 {words}\n")
        said = self.ask("sbatch", "-n", "2", "-o", str(out), str(script))
        return re.findall(r"\d+", said)[-1], out

    def state(self, job):
        said = self.ask("scontrol", "show", "job", job)
        return re.findall(r"JobState=(\w+)", said)[0], re.findall(r"ExitCode=(\S+)", said)[0]

    def wait(self, job, seconds=240):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            state = self.state(job)
            if state[0] not in {"PENDING", "RUNNING", "COMPLETING", "CONFIGURING"}:
                return state
            time.sleep(0.5)
        raise AssertionError(f"job {job} is still {self.state(job)}")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    made = Cluster(tmp_path_factory.mktemp("slurm"))
    try:
        made.start()
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="module")
def by_torchrun(cluster):
    """The weights that two processes of torchrun reach."""
    folder = cluster.folder / "torchrun"
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    command = (*launcher, "--log-dir", cluster.folder / "logs", ENTRY, folder, *FAST)
    subprocess.run(
        [sys.executable, *map(str, command)], env=cluster.env, check=True, capture_output=True, timeout=240
    )
    return load_file(folder / "weights_0.safetensors")


def assert_same(folder, expected):
    for rank in (0, 1):
        found = load_file(folder / f"weights_{rank}.safetensors")
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            assert torch.equal(found[name], value), (rank, name)


def test_srun_trains_as_torchrun_does(cluster, by_torchrun):
    command = ["srun", "-n", "2", sys.executable, str(ENTRY), str(cluster.folder / "srun"), *FAST]
    done = subprocess.run(command, env=cluster.env, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("step 60\n") == 1, "one process reports"
    assert_same(cluster.folder / "srun", by_torchrun)


def test_a_job_told_to_stop_saves_and_the_next_one_ends_with_the_same_weights(cluster, by_torchrun):
    """As before a preemption: SIGTERM to every task of the job, which then leaves by itself with exit code 0."""
    run = cluster.folder / "job"
    job, out = cluster.submit("first", run, *FAST)
    end = time.monotonic() + 240
    while "step 5\n" not in (out.read_text() if out.exists() else ""):
        assert time.monotonic() < end, out.read_text() if out.exists() else cluster.state(job)
        time.sleep(0.1)
    cluster.ask("scancel", "--signal=TERM", job)
    assert cluster.wait(job) == ("COMPLETED", "0:0"), out.read_text()
    saved = re.findall(r"^saved at step (\d+); go on with --resume$", out.read_text(), re.MULTILINE)
    assert len(saved) == 2
    assert saved[0] == saved[1]
    assert 5 <= int(saved[0]) < 60
    again, out = cluster.submit("second", run, "--resume", *FAST)
    assert cluster.wait(again) == ("COMPLETED", "0:0"), out.read_text()
    assert "step 60\n" in out.read_text()
    assert f"step {saved[0]}\n" not in out.read_text()
    assert_same(run, by_torchrun)
