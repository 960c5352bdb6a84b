"""One training by several processes: who is who, and what they tell each other.

The processes are started by `torchrun` or by Slurm's `srun`, one per device. Gradients are averaged by one all-reduce of
all of them in a fixed order, so that a resumed training adds the same numbers in the same order.
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import numpy as np
import numpy.typing as npt
import torch
from torch import distributed, nn
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from volseg.errors import ConfigError, TrainingError
from volseg.infer.engines import choose_device

_PATIENCE = timedelta(minutes=30)
"""How long a process waits for the others within a step or a validation."""
_LOOK_AGAIN = timedelta(seconds=20)


@dataclass(frozen=True)
class Ranks:
    """This process among those of a training."""

    rank: int = 0
    """0..size-1; only rank 0 writes files."""
    size: int = 1
    local_rank: int = 0
    """Among the processes of this machine."""
    store: Store | None = field(default=None, compare=False, repr=False)
    """What the processes share besides tensors; None for a process alone."""

    @property
    def is_first(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def sum(self, numbers: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """The sum over all processes of an array of the same shape in each.

        Raises:
            TrainingError: another process has stopped.
        """
        array = np.asarray(numbers, np.float64)
        if self.size == 1:
            return array
        tensor = torch.from_numpy(array.copy())
        with _others():
            distributed.all_reduce(tensor)
        return tensor.numpy()

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace each gradient by its mean over the processes, bit for bit the same in all of them.

        Raises:
            TrainingError: another process has stopped.
        """
        if self.size == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        with _others():
            distributed.all_reduce(flat)
        flat /= self.size
        for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view(gradient.shape))

    def share_buffers(self, module: nn.Module) -> None:
        """Give all processes the first one's buffers, such as the running statistics of batch norm."""
        if self.size == 1:
            return
        with _others():
            for buffer in module.buffers():
                distributed.broadcast(buffer, src=0)

    @contextmanager
    def first_before_others(self, name: str) -> Iterator[None]:
        """Run a block in the first process, then in the others, which wait for it as long as it takes.

        So the first one writes the cache and the others find it complete. A name is used once in a training.

        Raises:
            TrainingError: the first process failed in the block, or is gone.
        """
        if self.store is None:
            yield
            return
        if not self.is_first:
            self._await(self.store, name)
            yield
            return
        outcome = "failed"
        try:
            yield
            outcome = "done"
        finally:
            self.store.set(name, outcome)

    def _await(self, store: Store, name: str) -> None:
        while True:
            try:
                store.wait([name], _LOOK_AGAIN)
                outcome = store.get(name)
                break
            except distributed.DistStoreError as error:
                if "imeout" not in str(error):
                    raise _gone() from error
            except RuntimeError as error:
                raise _gone() from error
        if outcome != b"done":
            raise TrainingError(
                f"process {self.rank} of {self.size} stops: the first process failed while the others waited for its "
                f"{name}; its own message says why."
            )


ALONE = Ranks()
"""A training by one process."""


@contextmanager
def open_ranks(device: str = "auto", *, patience: timedelta = _PATIENCE) -> Iterator[Ranks]:
    """Join the other processes of a training that torchrun or srun started; without either, ALONE.

    On CUDA each process takes the device of its local rank and speaks NCCL, on the CPU gloo.

    Args:
        device: "auto", "cpu" or "cuda".
        patience: how long a process waits for the others within a step before it gives up.

    Raises:
        ConfigError: the launcher's variables contradict each other.
        TrainingError: the others cannot be reached.
    """
    place = _place(os.environ)
    if place is None or place.size == 1:
        yield ALONE
        return
    on_cuda = choose_device(device).type == "cuda"
    if on_cuda:
        torch.cuda.set_device(place.local_rank % torch.cuda.device_count())
    try:
        store, rank, size = next(rendezvous(place.address, place.rank, place.size, timeout=patience))
        distributed.init_process_group(
            "cpu:gloo,cuda:nccl" if on_cuda else "gloo",
            store=PrefixStore("collectives", store), rank=rank, world_size=size, timeout=patience,
        )  # fmt: skip
    except (RuntimeError, ValueError, OSError) as error:
        raise TrainingError(
            f"process {place.rank} of {place.size} cannot reach the others by {place.address}: {error}. Start all of "
            "them with one torchrun or srun, on machines that can reach each other."
        ) from error
    try:
        yield Ranks(rank, size, place.local_rank, PrefixStore("volseg", store))
    finally:
        distributed.destroy_process_group()


@dataclass(frozen=True)
class _Place:
    """What a launcher says of this process."""

    rank: int
    size: int
    local_rank: int
    address: str
    """Where the processes meet, as torch.distributed writes it."""


def _place(variables: Mapping[str, str]) -> _Place | None:
    """The place given by torchrun or srun; None without a launcher.

    torchrun comes first, as it may itself be started by srun. In a batch script of Slurm, outside srun, there is one
    process whatever SLURM_NTASKS says: SLURM_STEP_NUM_TASKS is set by srun alone.
    """
    if "RANK" in variables and "WORLD_SIZE" in variables:
        names, address = ("RANK", "WORLD_SIZE", "LOCAL_RANK"), "env://"
    elif "SLURM_PROCID" in variables and "SLURM_STEP_NUM_TASKS" in variables:
        names, address = ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID"), _slurm_address(variables)
    else:
        return None
    try:
        rank, size, local_rank = (int(variables.get(name, "0")) for name in names)
    except ValueError:
        rank, size, local_rank = -1, 0, 0
    if not 0 <= rank < size:
        found = ", ".join(f"{name}={variables.get(name)}" for name in names)
        raise ConfigError(
            f"the launcher's variables make no sense: {found}; start with torchrun or srun, or unset them."
        )
    return _Place(rank, size, local_rank, address)


def _slurm_address(variables: Mapping[str, str]) -> str:
    """The machine of rank 0 and a port that the steps of different jobs do not share."""
    job, step = (int(variables.get(name, "0")) for name in ("SLURM_JOB_ID", "SLURM_STEP_ID"))
    host = "127.0.0.1"
    if variables.get("SLURM_STEP_NUM_NODES", variables.get("SLURM_NNODES")) != "1":
        machines = variables.get("SLURM_STEP_NODELIST", variables.get("SLURM_NODELIST", ""))
        host = first_machine(machines) or variables.get("SLURM_LAUNCH_NODE_IPADDR", host)
    return f"tcp://{host}:{12000 + (job * 31 + step) % 20000}"


def first_machine(machines: str) -> str:
    """The first name of a Slurm node list: "gpu[03-05,9]-ib,cpu1" gives "gpu03-ib"."""
    first = re.split(r",(?![^\[]*\])", machines)[0]
    return re.sub(r"\[(\d+)[^\]]*\]", r"\1", first)


@contextmanager
def _others() -> Iterator[None]:
    """Tell in words that another process is gone; torch raises a RuntimeError of some kind."""
    try:
        yield
    except RuntimeError as error:
        raise _gone() from error


def _gone() -> TrainingError:
    return TrainingError(
        "another process of this training has stopped or does not answer, so this one stops too; the other's message "
        "says why. The checkpoints are whole: go on with --resume."
    )
