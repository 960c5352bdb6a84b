"""Training steps per second: volseg's loop beside a plain MONAI loop, and the network alone in bf16 and fp32.

    python benchmarks/bench_train.py [rounds]

The network is a U-Net++ of widths 16, 32, 64 (2 patches of 40 x 56 x 40, all heads), on four synthetic cases of 96 x 112 x 96.
The MONAI loop is CacheDataset, RandCropByPosNegLabeld, DataLoader, DiceCELoss and AdamW: it crops and does nothing else to a
patch. volseg runs once like that and once with its default augmentation; both times it also clips, averages the weights,
logs and watches for NaN. Same patch, batch, torch threads and two workers each. The contenders take turns within one process;
`waited` is the part of the time in which the network waited for patches. Prints one JSON line each, with the ratio of the
median seconds per step to the first contender's.
"""

import json
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from volseg.config import check_config
from volseg.infer.engines import keep_memory_mapped
from volseg.io import write_label_map, write_volume
from volseg.models.unetpp import UNetPlusPlus
from volseg.train.losses.heads import head_weights, training_loss
from volseg.train.settings import HeadsConfig, LossConfig, TrainConfig
from volseg.train.targets import TargetCode

PATCH, WIDTHS, BATCH, WORKERS, STEPS = (40, 56, 40), (16, 32, 64), 2, 2, 10
SHAPE = (96, 112, 96)
Run = Callable[[], tuple[float, float]]
"""Trains and returns (seconds per step, part of them waited for patches)."""


def network_alone(precision: str) -> Run:
    network = UNetPlusPlus(widths=WIDTHS).build(1, 3).train()
    images, labels = torch.randn(BATCH, 1, *PATCH), torch.randint(0, 3, (BATCH, *PATCH))
    target = TargetCode(torch.eye(3, dtype=torch.bool), ("a", "b")).encode(labels)

    def run() -> tuple[float, float]:
        began = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            heads = network(images)
        training_loss(heads, target, LossConfig(), progress=0.5).backward()
        network.zero_grad()
        return time.perf_counter() - began, 0.0

    return run


def cases() -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Images [I, J, K] float32 and labels 0..2 of four synthetic cases."""
    i, j, k = np.meshgrid(*map(np.arange, SHAPE), indexing="ij")
    for seed in range(4):
        rng = np.random.default_rng(seed)
        centre = np.array(SHAPE) / 2 + rng.uniform(-15, 15, 3)
        distance = np.sqrt((i - centre[0]) ** 2 + (j - centre[1]) ** 2 + (k - centre[2]) ** 2)
        labels = (distance < 25).astype(np.uint8) + (distance < 12)
        yield (labels + rng.normal(0, 0.5, SHAPE)).astype(np.float32), labels


def volseg_loop(folder: Path, augment: dict[str, Any]) -> Run:
    from volseg.train.data import load_data
    from volseg.train.loop import Trainer
    from volseg.train.split import split_cases

    fields = yaml.safe_load((Path(__file__).parents[1] / "configs/smoke/train_phantom.yaml").read_text())
    fields |= {
        "dataset": {"name": "msd", "root": str(folder / "data")}, "split": {"fold": "all"}, "preprocess": [], "steps": STEPS,
        "architecture": {"name": "unetpp", "widths": list(WIDTHS)}, "patch_voxels": list(PATCH), "batch_size": BATCH,
        "workers": WORKERS, "tile": {"tile_voxels": list(PATCH)}, "validation": {"every_steps": 1000}, "augment": augment,
    }  # fmt: skip
    config = check_config(fields, TrainConfig, source="benchmark")
    data = load_data(config, split_cases(config), folder / "cache")

    def run() -> tuple[float, float]:
        times: list[tuple[float, float, float]] = []
        Trainer(config, data, Path(tempfile.mkdtemp(dir=folder)), device="cpu").run(
            lambda progress: times.append(
                (time.perf_counter(), progress.waited, progress.step / progress.patches_per_second * BATCH)
            )
        )
        # from the end of the first step to that of the last but one: no start of workers, no picture at the end
        first, last = times[0], times[-2]
        seconds = last[0] - first[0]
        return seconds / (len(times) - 2), (last[1] * last[2] - first[1] * first[2]) / seconds

    return run


def write_dataset(folder: Path) -> None:
    from volseg.geometry import Grid
    from volseg.volume import LabelMap, Volume

    entries = []
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    for number, (image, labels) in enumerate(cases()):
        grid = Grid(SHAPE, np.eye(4))
        write_volume(Volume(image, grid), folder / f"imagesTr/case_{number}.nii.gz")
        write_label_map(LabelMap(labels, grid), folder / f"labelsTr/case_{number}.nii.gz")
        entries.append(
            {"image": f"./imagesTr/case_{number}.nii.gz", "label": f"./labelsTr/case_{number}.nii.gz"}
        )
    table = {
        "modality": {"0": "MRI"},
        "labels": {"0": "background", "1": "a", "2": "b"},
        "training": entries,
        "numTraining": 4,
    }
    (folder / "dataset.json").write_text(json.dumps(table))


def monai_loop() -> Run:
    from monai.data import CacheDataset, DataLoader, list_data_collate
    from monai.losses import DiceCELoss
    from monai.transforms import Compose, EnsureTyped, RandCropByPosNegLabeld
    from torch.utils.data import RandomSampler

    crop = RandCropByPosNegLabeld(
        ["image", "label"], label_key="label", spatial_size=PATCH, pos=1, neg=1, num_samples=1
    )
    samples = [{"image": image[None], "label": labels[None]} for image, labels in cases()]
    dataset = CacheDataset(
        samples, Compose([EnsureTyped(["image", "label"]), crop]), num_workers=1, progress=False
    )
    loss_of = DiceCELoss(to_onehot_y=True, softmax=True, include_background=False)

    def run() -> tuple[float, float]:
        sampler = RandomSampler(dataset, replacement=True, num_samples=STEPS * BATCH)
        loader = DataLoader(
            dataset, batch_size=BATCH, sampler=sampler, num_workers=WORKERS, collate_fn=list_data_collate
        )
        network = UNetPlusPlus(widths=WIDTHS).build(1, 3).train()
        optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
        ends, waits, asked = [], [], time.perf_counter()
        for batch in loader:
            waits.append(time.perf_counter() - asked)
            optimizer.zero_grad(set_to_none=True)
            heads = network(batch["image"].as_tensor())
            weights = head_weights(len(heads), HeadsConfig(), 0.5)
            losses = [
                weight * loss_of(head, batch["label"].as_tensor())
                for weight, head in zip(weights, heads, strict=True)
            ]
            loss = torch.stack(losses).sum()
            loss.backward()
            optimizer.step()
            loss.item()
            ends.append(asked := time.perf_counter())
        seconds = ends[-2] - ends[0]
        return seconds / (len(ends) - 2), sum(waits[1:-1]) / seconds

    return run


def compare(benchmark: str, contenders: dict[str, Run], rounds: int) -> None:
    """Time the contenders in turn; ratios are to the first. The first round warms up."""
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
    for _ in range(rounds + 1):
        for name, run in contenders.items():
            seconds[name].append(run())
    medians = {
        name: [statistics.median(values) for values in zip(*runs[1:], strict=True)]
        for name, runs in seconds.items()
    }
    first = next(iter(medians.values()))[0]
    for name, (median, waited) in medians.items():
        line = {"benchmark": benchmark, "name": name, "rounds": rounds, "machine": platform.machine()}
        numbers = {"seconds": round(median, 4), "ratio": round(median / first, 2), "waited": round(waited, 4)}
        print(json.dumps(line | numbers))


def main(rounds: int) -> None:
    keep_memory_mapped()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_dataset(folder / "data")
        crops_only = {"spatial_probability": 0, "intensity_probability": 0}
        loops = {
            "volseg, crops only": volseg_loop(folder, crops_only),
            "volseg, augmented": volseg_loop(folder, {}),
            "monai, crops only": monai_loop(),
        }
        compare("training_loop", loops, rounds)
    compare("training_step", {"bf16": network_alone("bf16"), "fp32": network_alone("fp32")}, rounds)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
