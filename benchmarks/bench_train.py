"""What a training step costs: the network in fp32 and bf16, and a patch's augmentation beside MONAI's transforms.

    python benchmarks/bench_train.py [runs]

The network is the bundled hippocampus model's (2 patches of 40 x 56 x 40, all heads); the patch is one 96^3 channel with
labels. Runs alternate in one process; wall seconds, as both sides use all cores. Prints one JSON line each, with the ratio
of the medians of that session.
"""

import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from volseg.infer.engines import keep_memory_mapped
from volseg.models.unetpp import UNetPlusPlus
from volseg.train.augment import change_intensity, draw_patch_map, resample_patch
from volseg.train.losses import deep_supervision
from volseg.train.settings import AugmentConfig, LossConfig

SIDE = 96


def step_of(precision: str) -> Callable[[int], None]:
    network = UNetPlusPlus(widths=(16, 32, 80, 160)).build(1, 3).train()
    images, labels = torch.randn(2, 1, 40, 56, 40), torch.randint(0, 3, (2, 40, 56, 40))

    def step(_: int) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            heads = network(images)
        deep_supervision(heads, labels, LossConfig()).backward()
        network.zero_grad()

    return step


def volseg_augmentation() -> Callable[[int], None]:
    extent = round(SIDE * 1.4)
    image, labels = (
        torch.randn(1, extent, extent, extent),
        torch.zeros(extent, extent, extent, dtype=torch.uint8),
    )
    augment = AugmentConfig(mirror_axes=(0, 1, 2), spatial_probability=1, intensity_probability=0.3)

    def draw(seed: int) -> None:
        rng = np.random.default_rng(seed)
        patch_map = draw_patch_map((SIDE, SIDE, SIDE), (1, 1, 1), augment, rng)
        patch, _ = resample_patch(image, labels, 2, np.full(3, extent / 2), patch_map)
        change_intensity(patch, augment, rng)

    return draw


def monai_augmentation() -> Callable[[int], None]:
    from monai import transforms

    extent, keys, size = round(SIDE * 1.4), ["image", "label"], (SIDE, SIDE, SIDE)
    angle = np.deg2rad(15)
    pipeline = transforms.Compose(
        [
            transforms.Rand3DElasticd(
                keys, sigma_range=(5, 7), magnitude_range=(0, 100), prob=1, spatial_size=size,
                rotate_range=(angle,) * 3, scale_range=(0.15,) * 3, mode=("bilinear", "nearest"),
            ),
            transforms.RandFlipd(keys, prob=0.5, spatial_axis=0),
            transforms.RandFlipd(keys, prob=0.5, spatial_axis=1),
            transforms.RandFlipd(keys, prob=0.5, spatial_axis=2),
            transforms.RandGaussianNoised("image", prob=0.3, std=0.15),
            transforms.RandGaussianSmoothd("image", prob=0.3),
            transforms.RandScaleIntensityd("image", factors=0.3, prob=0.3),
            transforms.RandShiftIntensityd("image", offsets=0.3, prob=0.3),
            transforms.RandAdjustContrastd("image", prob=0.3, gamma=(0.7, 1.5)),
        ]
    )  # fmt: skip
    image = torch.randn(1, extent, extent, extent)
    sample: dict[str, Any] = {"image": image, "label": torch.zeros_like(image)}
    return lambda _: pipeline(sample)


def compare(benchmark: str, contenders: dict[str, Callable[[int], None]], runs: int) -> None:
    """Time the contenders in turn; ratios are to the first."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for run in range(runs + 1):
        for name, function in contenders.items():
            start = time.perf_counter()
            function(run)
            seconds[name].append(time.perf_counter() - start)
    medians = {
        name: statistics.median(times[1:]) for name, times in seconds.items()
    }  # the first run warms up
    first = next(iter(medians.values()))
    for name, median in medians.items():
        line = {"benchmark": benchmark, "name": name, "runs": runs, "machine": platform.machine()}
        print(json.dumps(line | {"seconds": round(median, 4), "ratio": round(median / first, 2)}))


def main(runs: int) -> None:
    keep_memory_mapped()
    compare("training_step", {"bf16": step_of("bf16"), "fp32": step_of("fp32")}, runs)
    compare("augmentation_96", {"volseg": volseg_augmentation(), "monai": monai_augmentation()}, runs)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 7)
