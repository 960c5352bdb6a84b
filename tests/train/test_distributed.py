import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from volseg.errors import ConfigError
from volseg.train.distributed import ALONE, Ranks, _place, first_machine, open_ranks

ENTRY = Path(__file__).with_name("train_entry.py")
ROOT = Path(__file__).parents[2]
FAST = (
    *("steps=8", "validation.every_steps=3", "architecture.widths=[8, 8]", "patch_voxels=[12, 16, 12]"),
    *("tile.tile_voxels=[20, 24, 20]", "checkpoint_minutes=1e-6"),
)
SRUN = {
    "SLURM_PROCID": "3", "SLURM_STEP_NUM_TASKS": "4", "SLURM_LOCALID": "1", "SLURM_JOB_ID": "70", "SLURM_STEP_ID": "2",
    "SLURM_STEP_NUM_NODES": "2", "SLURM_STEP_NODELIST": "gpu[03-05,9],cpu1", "SLURM_LAUNCH_NODE_IPADDR": "10.0.0.1",
}  # fmt: skip


@pytest.mark.parametrize(
    ("machines", "first"),
    [
        ("gpu[03-05,9]-ib,cpu1", "gpu03-ib"),
        ("node7", "node7"),
        ("node7,node8", "node7"),
        ("rack[0-1]node[12,14]", "rack0node12"),
        ("", ""),
    ],
)
def test_the_first_machine_of_a_node_list(machines, first):
    assert first_machine(machines) == first


def test_places_given_by_the_launchers():
    assert _place({}) is None
    torchrun = _place({"RANK": "2", "WORLD_SIZE": "4", "LOCAL_RANK": "0", **SRUN})
    assert (torchrun.rank, torchrun.size, torchrun.local_rank, torchrun.address) == (2, 4, 0, "env://")
    srun = _place(SRUN)
    assert (srun.rank, srun.size, srun.local_rank) == (3, 4, 1)
    assert srun.address.startswith("tcp://gpu03:")
    assert _place(SRUN | {"SLURM_STEP_NUM_NODES": "1"}).address.startswith("tcp://127.0.0.1:")
    assert _place(SRUN | {"SLURM_STEP_NODELIST": ""}).address.startswith("tcp://10.0.0.1:")
    assert _place(SRUN | {"SLURM_JOB_ID": "71"}).address != srun.address


def test_a_batch_script_is_one_process_whatever_the_job_asks_for():
    assert _place({"SLURM_PROCID": "0", "SLURM_NTASKS": "4", "SLURM_LOCALID": "0"}) is None


@pytest.mark.parametrize("rank", ["4", "-1", "x"])
def test_variables_that_make_no_sense(rank):
    with pytest.raises(ConfigError, match=f"RANK={rank}, WORLD_SIZE=4"):
        _place({"RANK": rank, "WORLD_SIZE": "4"})


def test_one_process_is_alone_and_changes_nothing(monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    parameter = torch.nn.Parameter(torch.ones(2))
    parameter.grad = torch.tensor([1.0, 2.0])
    with open_ranks("cpu") as ranks:
        assert ranks == ALONE == Ranks(0, 1, 0)
        assert ranks.is_first
        ranks.average_gradients([parameter])
        assert ranks.sum([[1, 2.5]]).tolist() == [[1, 2.5]]
        with ranks.first_before_others("cache"):
            pass
    assert parameter.grad.tolist() == [1, 2]


def environment(**variables):
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **variables}


def start_by_hand(script, size=2):
    """A process per rank, as torchrun would start them, but nobody stops the others when one dies."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    common = {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return [
        subprocess.Popen(
            [sys.executable, *map(str, script)], env=environment(RANK=str(rank), LOCAL_RANK=str(rank), **common),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(size)
    ]  # fmt: skip


@pytest.fixture
def by_hand():
    """start_by_hand, whose processes are gone afterwards."""
    started = []

    def start(script, size=2):
        started.extend(start_by_hand(script, size))
        return started

    yield start
    for process in started:
        process.kill()
        process.communicate()


TALK = """
import sys, time
from datetime import timedelta
import torch
from volseg.errors import TrainingError
from volseg.train.distributed import open_ranks

try:
    with open_ranks("cpu", patience=timedelta(seconds=20)) as ranks:
        weights = [torch.nn.Parameter(torch.zeros(2, 3)), torch.nn.Parameter(torch.zeros(4)), torch.nn.Parameter(torch.zeros(1))]
        weights[0].grad = torch.arange(6.0).view(3, 2).T * (ranks.rank + 1)   # not contiguous
        weights[1].grad = torch.full((4,), float(ranks.rank))
        ranks.average_gradients(weights)
        norm = torch.nn.BatchNorm1d(2)
        norm.running_mean += ranks.rank + 5
        ranks.share_buffers(norm)
        with ranks.first_before_others("cache"):
            print("in", ranks.rank, time.time())
            time.sleep(0.5 * ranks.is_first)
            print("out", ranks.rank, time.time())
        print("sum", ranks.sum([[ranks.rank, 1], [0.25, 2]]).tolist())
        print("mean", weights[0].grad.tolist(), weights[1].grad.tolist(), weights[2].grad, norm.running_mean.tolist())
        with ranks.first_before_others("second"):
            if ranks.is_first:
                raise TrainingError("the disk is full")
except TrainingError as error:
    print(error)
    sys.exit(2)
"""


def test_two_processes_average_share_wait_and_hear_of_a_failure(by_hand, tmp_path):
    (tmp_path / "talk.py").write_text(TALK)
    said = [process.communicate(timeout=60)[0].splitlines() for process in by_hand([tmp_path / "talk.py"])]
    mean = (torch.arange(6.0).view(3, 2).T * 1.5).tolist()
    for lines in said:
        assert "sum [[1.0, 2.0], [0.5, 4.0]]" in lines
        assert f"mean {mean} [0.5, 0.5, 0.5, 0.5] None [5.0, 5.0]" in lines
    times = [{line.split()[0]: float(line.split()[2]) for line in lines[:2]} for lines in said]
    assert times[1]["in"] > times[0]["out"]
    assert said[0][-1] == "the disk is full"
    assert (
        "process 1 of 2 stops: the first process failed while the others waited for its second" in said[1][-1]
    )


def run_two(tmp_path, name, *arguments):
    """A training by torchrun with two processes, and its weights of both ranks."""
    folder, logs = tmp_path / name, tmp_path / "torchrun"  # which would leave a folder in /tmp
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--log-dir", logs)
    command = (*launcher, ENTRY, folder, *FAST, *arguments)
    done = subprocess.run(
        [sys.executable, *map(str, command)], env=environment(), capture_output=True, text=True, timeout=120, check=False
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout, [load_file(folder / f"weights_{rank}.safetensors") for rank in (0, 1)]


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def wait_for(process, line):
    for said in process.stdout:
        if said.strip() == line:
            return
    raise AssertionError(f"ended without '{line}': {process.stderr.read()}")


@pytest.mark.slow
def test_two_processes_end_with_the_same_weights_which_one_process_cannot_reach(tmp_path, phantom_config):
    """Twice the same command, twice the same bits; and the step is that of both ranks' batches together."""
    _, whole = run_two(tmp_path, "whole")
    _, again = run_two(tmp_path, "again")
    assert same(*whole)
    assert same(whole[0], again[0])
    alone = tmp_path / "alone"
    subprocess.run([sys.executable, ENTRY, alone, *FAST], env=environment(), check=True, capture_output=True)
    assert not same(whole[0], load_file(alone / "weights_0.safetensors"))


@pytest.mark.slow
def test_two_processes_killed_at_random_steps_end_with_the_same_weights(by_hand, tmp_path):
    _, whole = run_two(tmp_path, "whole")
    parts, rng = tmp_path / "parts", np.random.default_rng()
    stops = sorted(rng.choice(np.arange(1, 8), 2, replace=False).tolist())
    for count, stop in enumerate(stops):
        processes = by_hand([ENTRY, parts, *FAST, *(["--resume"] if count else [])])[-2:]
        wait_for(processes[0], f"step {stop}")
        for process in processes:
            process.kill()
            process.wait()
    run_two(tmp_path, "parts", "--resume")
    ends = [load_file(parts / f"weights_{rank}.safetensors") for rank in (0, 1)]
    assert same(ends[0], whole[0]), f"killed after the steps {stops}"
    assert same(ends[1], whole[1])


@pytest.mark.slow
@pytest.mark.parametrize("dead", [0, 1])
def test_a_rank_that_dies_stops_the_other_with_a_message(by_hand, tmp_path, dead):
    processes = by_hand([ENTRY, tmp_path / "run", *FAST, "steps=2000", "validation.every_steps=2000"])
    wait_for(processes[0], "step 3")
    processes[dead].kill()
    began = time.monotonic()
    _, error = processes[1 - dead].communicate(timeout=60)
    assert time.monotonic() - began < 30
    assert processes[1 - dead].returncode == 2
    assert "another process of this training has stopped" in error
    assert "Traceback" not in error


@pytest.mark.slow
@pytest.mark.parametrize("told", [0, 1])
def test_sigterm_to_one_rank_stops_all_at_one_step_and_resumes_exactly(by_hand, tmp_path, told):
    _, whole = run_two(tmp_path, "whole", "steps=24", "validation.every_steps=10")
    processes = by_hand([ENTRY, tmp_path / "parts", *FAST, "steps=24", "validation.every_steps=10"])
    wait_for(processes[0], "step 5")
    processes[told].send_signal(signal.SIGTERM)
    ends = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], ends
    saved = [out.splitlines()[-1] for out, _ in ends]
    assert saved[0] == saved[1]
    assert saved[0].startswith("saved at step ")
    assert saved[0].endswith("; go on with --resume")
    _, resumed = run_two(tmp_path, "parts", "--resume", "steps=24", "validation.every_steps=10")
    assert same(resumed[0], whole[0])
    assert same(resumed[1], whole[1])
