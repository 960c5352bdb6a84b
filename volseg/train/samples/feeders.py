"""Who prepares the patches: threads, worker processes, or threads that read for the device that augments.

A feeder gets groups, each a step and the indices of its patches, and gives them back stacked, in order, working ahead.
"""

import atexit
import logging
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Literal, Protocol, TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from volseg.errors import TrainingError
from volseg.train.samples.sampling import PatchSampler, RawPatch

logger = logging.getLogger(__name__)

Group = tuple[int, tuple[int, ...]]
Stacked = tuple[Tensor, Tensor]
"""Images [B, C, I, J, K] float32 and label indices [B, I, J, K] uint8."""
Where = Literal["threads", "processes", "device"]
_Made = TypeVar("_Made")

_GROUPS_AHEAD_PER_WORKER = 2
_SLOW_PATCH_SECONDS = 0.02
_THREADS_SCALE = 0.75
_DEVICE_GAIN = 2.0


class Feeder(Protocol):
    """What all ways have in common."""

    where: Where

    def feed(self, groups: Sequence[Group]) -> Iterator[Stacked]:
        """The patches of each group, in order; what an earlier, unfinished call prepared is dropped."""
        ...

    def close(self) -> None:
        """Stop the workers and wait for them."""
        ...


def make_feeder(
    where: Literal["threads", "processes"], sampler: PatchSampler, workers: int, device: torch.device
) -> Feeder:
    """A feeder on the CPU; both kinds give the same patches, bit for bit."""
    kind = ThreadFeeder if where == "threads" else ProcessFeeder
    return kind(sampler, workers, pin=device.type == "cuda")


def open_feeder(
    where: Where | Literal["auto"], sampler: PatchSampler, workers: int, device: torch.device
) -> Feeder:
    """The feeder that the settings name, for a network on a device; "auto" measures which is fastest."""
    if where == "auto":
        return choose_feeder(sampler, workers, device)
    if where == "device":
        return RawFeeder(sampler, workers, device)
    return make_feeder(where, sampler, workers, device)


class _ThreadPool:
    """Threads that compute on one core each, so that sums do not depend on how many cores there are."""

    def __init__(self, workers: int) -> None:
        self._ahead = _GROUPS_AHEAD_PER_WORKER * workers
        # the setting holds for the thread that calls it: the training keeps its own
        self._pool = ThreadPoolExecutor(workers, "patches", initializer=torch.set_num_threads, initargs=(1,))

    def ordered(self, work: Callable[[Group], _Made], groups: Sequence[Group]) -> Iterator[_Made]:
        queue: deque[Future[_Made]] = deque()
        try:
            for group in groups:
                queue.append(self._pool.submit(work, group))
                if len(queue) > self._ahead:
                    yield queue.popleft().result()
            while queue:
                yield queue.popleft().result()
        finally:
            for future in queue:
                future.cancel()

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)


class ThreadFeeder:
    """Threads of this process; most of their work is outside Python's lock."""

    where: Where = "threads"

    def __init__(self, sampler: PatchSampler, workers: int, *, pin: bool = False) -> None:
        self._sampler, self._pin = sampler, pin
        self._threads = _ThreadPool(workers)

    def feed(self, groups: Sequence[Group]) -> Iterator[Stacked]:
        """See Feeder."""
        return self._threads.ordered(self._stacked, groups)

    def close(self) -> None:
        """See Feeder."""
        self._threads.close()

    def _stacked(self, group: Group) -> Stacked:
        images, labels = _draw(self._sampler, group)
        return (images.pin_memory(), labels.pin_memory()) if self._pin else (images, labels)


class RawFeeder:
    """Threads read the regions; the device resamples them and changes their intensities."""

    where: Where = "device"

    def __init__(self, sampler: PatchSampler, workers: int, device: torch.device) -> None:
        self._sampler, self._device = sampler, device
        self._threads = _ThreadPool(workers)

    def feed(self, groups: Sequence[Group]) -> Iterator[Stacked]:
        """See Feeder."""
        for raws in self._threads.ordered(self._read, groups):
            made = [raw.augmented(self._sampler.augment, self._device) for raw in raws]
            yield torch.stack([image for image, _ in made]), torch.stack([labels for _, labels in made])

    def close(self) -> None:
        """See Feeder."""
        self._threads.close()

    def _read(self, group: Group) -> list[RawPatch]:
        step, indices = group
        return [self._sampler.raw(step, index) for index in indices]


class ProcessFeeder:
    """Worker processes, which end when this one does, however it ends; Ctrl-C and SIGTERM are left to this process."""

    where: Where = "processes"

    def __init__(self, sampler: PatchSampler, workers: int, *, pin: bool = False) -> None:
        self._groups: list[Group] = []
        self._loader: DataLoader[Stacked] = DataLoader(
            _Groups(sampler), batch_size=None, sampler=self._groups, num_workers=min(workers, _cores()), pin_memory=pin,
            multiprocessing_context="spawn", persistent_workers=True, prefetch_factor=_GROUPS_AHEAD_PER_WORKER,
            worker_init_fn=_leave_signals_to_parent,
            generator=torch.Generator(),  # else it would draw from the generator of the training
        )  # fmt: skip
        self._iterator: Any = None
        atexit.register(self.close)  # before multiprocessing's own end, which would wait for the workers

    def feed(self, groups: Sequence[Group]) -> Iterator[Stacked]:
        """See Feeder.

        Raises:
            TrainingError: a worker process died.
        """
        self._groups[:] = groups
        try:
            self._iterator = iter(self._loader)
            yield from self._iterator
        except (RuntimeError, ConnectionError, EOFError) as error:
            if isinstance(error, RuntimeError) and not str(error).startswith("DataLoader worker (pid"):
                raise  # an error of the work itself
            raise TrainingError(
                f"a process that prepares patches died ({error}). If memory ran out (also in /dev/shm), lower "
                "workers, or set augment.where = threads; continue with --resume."
            ) from error

    def close(self) -> None:
        """See Feeder."""
        atexit.unregister(self.close)
        if self._iterator is not None:
            self._iterator._shutdown_workers()  # there is no public way to end persistent workers at a known time
            self._iterator = None


class _Groups(Dataset[Stacked]):
    """Groups of patches by (step, indices), for DataLoader."""

    def __init__(self, sampler: PatchSampler) -> None:
        self._sampler = sampler

    def __getitem__(self, group: Group) -> Stacked:
        return _draw(self._sampler, group)


def _draw(sampler: PatchSampler, group: Group) -> Stacked:
    step, indices = group
    made = [sampler.patch(step, index) for index in indices]
    return torch.stack([image for image, _ in made]), torch.stack([labels for _, labels in made])


def _cores() -> int:
    """Cores this process may use; more processes than that gain nothing."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _leave_signals_to_parent(_worker: int) -> None:
    """A signal to the whole group (Ctrl-C, a scheduler's SIGTERM) must not end the workers while the parent saves."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def choose_feeder(sampler: PatchSampler, workers: int, device: torch.device) -> Feeder:
    """The way that makes patches fastest here, by measuring a few patches.

    Processes take seconds to start: they are only tried where a patch is slow and threads hinder each other. An accelerator is only used where it is twice as fast as the
    CPU, as its time is taken from the network.
    """
    threads = ThreadFeeder(sampler, workers, pin=device.type == "cuda")
    if workers == 1 and device.type == "cpu":
        return threads
    alone, together = _rate(threads, 1, ahead=0), _rate(threads, workers, ahead=1)
    best: tuple[float, Feeder] = (together, threads)
    if alone * _SLOW_PATCH_SECONDS < 1 and together < _THREADS_SCALE * min(workers, _cores()) * alone:
        best = _faster(best, ProcessFeeder(sampler, workers, pin=device.type == "cuda"), workers)
    if device.type != "cpu":
        best = _faster(best, RawFeeder(sampler, workers, device), workers, gain=_DEVICE_GAIN)
    logger.info("patches are prepared by %s: %.1f a second", best[1].where, best[0])
    return best[1]


def _faster(
    best: tuple[float, Feeder], other: Feeder, workers: int, *, gain: float = 1.0
) -> tuple[float, Feeder]:
    """The better of two; the other one is closed."""
    try:
        rate = _rate(other, workers, ahead=1)
    except (RuntimeError, OSError, TrainingError) as error:
        logger.info("patches cannot be prepared by %s here: %s", other.where, error)
        rate = 0.0
    winner, loser = ((rate, other), best) if rate > gain * best[0] else (best, (rate, other))
    loser[1].close()
    return winner


def _rate(feeder: Feeder, workers: int, *, ahead: int) -> float:
    """Patches a second that so many workers make, after a first one each."""
    count = workers * (2 + ahead)
    ready = feeder.feed([(0, (index,)) for index in range(workers + count)])
    for _ in range(workers):
        next(ready)
    start = time.perf_counter()
    for _ in range(count):
        next(ready)
    return count / (time.perf_counter() - start)
