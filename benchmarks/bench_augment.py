"""What an augmented 128^3 patch costs: volseg, batchgeneratorsv2 and MONAI's dictionary transforms, one thread each.

    python benchmarks/bench_augment.py [runs]

It runs in an environment that holds the two peers, apart from the development one (they pull in much else):

    python3 -m venv /tmp/peers
    /tmp/peers/bin/pip install torch==2.13.0 numpy scipy pydantic PyYAML blosc2 safetensors monai pandas scikit-image
    /tmp/peers/bin/pip install --no-deps batchgeneratorsv2 batchgenerators fft-conv-pytorch
    OMP_NUM_THREADS=1 PYTHONPATH=. /tmp/peers/bin/python benchmarks/bench_augment.py

Each contender gets the same 192^3 region in memory, with labels of three values, and makes a 128^3 patch of it by the same
operations in nnU-Net's ranges: rotation by up to 30 degrees and scale 0.7 to 1.4, mirror, noise, blur, brightness, contrast,
low resolution, gamma. `every` does all of them each time, `elastic` a deformation too, `default` has nnU-Net's own
probabilities. Contenders alternate in one process. The milliseconds are the process's CPU time, a mean over the runs, so
other work on the machine counts little. One JSON line each; ratio: times the CPU time of volseg.
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

SIDE, EXTENT = 128, 192
DEFAULT = {
    "noise": 0.1,
    "blur": 0.2,
    "brightness": 0.15,
    "contrast": 0.15,
    "low_resolution": 0.25,
    "gamma": 0.4,
}
Contender = Callable[[int, torch.Tensor, torch.Tensor], Any]


def chances(kind: str) -> tuple[float, dict[str, float]]:
    """Of rotation and of scaling each, and of each change of intensity."""
    return (0.2, DEFAULT) if kind == "default" else (1.0, dict.fromkeys(DEFAULT, 1.0))


def region(channels: int) -> tuple[torch.Tensor, torch.Tensor]:
    i, j, k = np.indices((EXTENT,) * 3, dtype=np.float32) - EXTENT / 2
    organ = (i / 50) ** 2 + (j / 60) ** 2 + (k / 40) ** 2 < 1
    lesion = (i - 20) ** 2 + j**2 + k**2 < 12**2
    labels = organ.astype(np.uint8) + lesion
    noise = np.random.default_rng(0).normal(size=(channels, *labels.shape))
    return torch.from_numpy((noise + labels).astype(np.float32)), torch.from_numpy(labels.astype(np.uint8))


def volseg(kind: str) -> Contender:
    from volseg.train.samples.augment import augment_patch
    from volseg.train.samples.augment_settings import AugmentConfig
    from volseg.train.samples.augment_spatial import draw_patch_map
    from volseg.train.samples.boxes import part_inside, read_box, read_part

    spatial, intensity = chances(kind)
    augment = AugmentConfig(
        mirror_axes=(0, 1, 2), spatial_probability=1 - (1 - spatial) ** 2, rotation_degrees=30, scale=(0.7, 1.4),
        axis_scale=0, elastic_mm=3.0 if kind == "elastic" else 0.0, probabilities=intensity, noise_std=0.3,
        blur_sigma_voxels=(0.5, 1), low_resolution=(1, 2), contrast=(0.75, 1.25), brightness=0.25, gamma=(0.7, 1.5),
    )  # fmt: skip
    centre = np.full(3, (EXTENT - 1) / 2)

    def draw(seed: int, image: torch.Tensor, labels: torch.Tensor) -> Any:
        rng = np.random.default_rng(seed)
        patch_map = draw_patch_map((SIDE,) * 3, (1, 1, 1), augment, rng)
        first, extents = map(np.array, patch_map.box(centre))
        if patch_map.flips is None:
            inside = part_inside(first, extents, labels.shape)
            first = np.array([part.start for part in inside])
            region, classes = read_part(image.numpy(), inside), read_part(labels.numpy(), inside)
        else:
            region, classes = (
                read_box(image.numpy(), first, extents),
                read_box(labels.numpy(), first, extents),
            )
        part, classes = torch.from_numpy(region), torch.from_numpy(classes)
        return augment_patch(part, classes, patch_map, centre=centre - first, augment=augment, rng=rng)

    return draw


def batchgeneratorsv2(kind: str) -> Contender:
    from batchgeneratorsv2.transforms.intensity.brightness import MultiplicativeBrightnessTransform
    from batchgeneratorsv2.transforms.intensity.contrast import ContrastTransform
    from batchgeneratorsv2.transforms.intensity.gamma import GammaTransform
    from batchgeneratorsv2.transforms.intensity.gaussian_noise import GaussianNoiseTransform
    from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
    from batchgeneratorsv2.transforms.spatial.low_resolution import SimulateLowResolutionTransform
    from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
    from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
    from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
    from batchgeneratorsv2.transforms.utils.random import RandomTransform

    spatial, p = chances(kind)
    angle, size = np.deg2rad(30), (SIDE,) * 3
    pipeline = ComposeTransforms([
        SpatialTransform(
            size, patch_center_dist_from_border=0, random_crop=False, p_rotation=spatial, rotation=(-angle, angle),
            p_scaling=spatial, scaling=(0.7, 1.4), p_synchronize_scaling_across_axes=1,
            p_elastic_deform=1.0 if kind == "elastic" else 0.0, elastic_deform_magnitude=(0, 3),
        ),
        RandomTransform(GaussianNoiseTransform((0, 0.1), 1, True), p["noise"]),
        RandomTransform(GaussianBlurTransform((0.5, 1.0), False, False, p_per_channel=1), p["blur"]),
        RandomTransform(MultiplicativeBrightnessTransform((0.75, 1.25), False, 1), p["brightness"]),
        RandomTransform(ContrastTransform((0.75, 1.25), True, False, 1), p["contrast"]),
        RandomTransform(SimulateLowResolutionTransform(
            (0.5, 1), synchronize_channels=False, synchronize_axes=True, ignore_axes=(), allowed_channels=None,
            p_per_channel=1), p["low_resolution"]),
        RandomTransform(GammaTransform((0.7, 1.5), 0.3, False, 1, 1), p["gamma"]),
        MirrorTransform((0, 1, 2)),
    ])  # fmt: skip

    def draw(seed: int, image: torch.Tensor, labels: torch.Tensor) -> Any:
        np.random.seed(seed)  # noqa: NPY002 the library draws from numpy's old generator
        torch.manual_seed(seed)
        return pipeline(image=image, segmentation=labels[None].to(torch.int16))

    return draw


def monai(kind: str) -> Contender:
    from monai import transforms as t

    spatial, p = chances(kind)
    keys, size, angle = ["image", "label"], (SIDE,) * 3, (float(np.deg2rad(30)),) * 3
    common: dict[str, Any] = {
        "rotate_range": angle, "scale_range": ((-0.3, 0.4),) * 3, "mode": ("bilinear", "nearest"),
        "spatial_size": size, "padding_mode": "zeros",
    }  # fmt: skip
    if kind == "elastic":
        first = t.Rand3DElasticd(keys, sigma_range=(5, 7), magnitude_range=(0, 100), prob=1, **common)
    else:
        first = t.RandAffined(keys, prob=1 - (1 - spatial) ** 2, **common)
    pipeline = t.Compose([
        first,
        *(t.RandFlipd(keys, prob=0.5, spatial_axis=axis) for axis in range(3)),
        t.RandGaussianNoised("image", prob=p["noise"], std=0.3),
        t.RandGaussianSmoothd("image", (0.5, 1), (0.5, 1), (0.5, 1), prob=p["blur"]),
        t.RandScaleIntensityd("image", factors=0.25, prob=p["brightness"]),
        t.RandScaleIntensityFixedMeand("image", factors=0.25, preserve_range=True, prob=p["contrast"]),
        t.RandSimulateLowResolutiond("image", prob=p["low_resolution"], zoom_range=(0.5, 1)),
        t.RandAdjustContrastd("image", prob=p["gamma"], gamma=(0.7, 1.5), retain_stats=True),
    ])  # fmt: skip

    def draw(seed: int, image: torch.Tensor, labels: torch.Tensor) -> Any:
        pipeline.set_random_state(seed)
        return pipeline({"image": image, "label": labels[None]})

    return draw


def compare(kind: str, channels: int, runs: int) -> None:
    """Time the contenders in turn; ratios are to the first."""
    image, labels = region(channels)
    makers = {"volseg": volseg, "batchgeneratorsv2": batchgeneratorsv2, "monai": monai}
    contenders = {name: make(kind) for name, make in makers.items()}
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for run in range(runs + 1):
        for name, draw in contenders.items():
            own_image, own_labels = image.clone(), labels.clone()
            start = time.process_time()
            draw(run, own_image, own_labels)
            seconds[name].append(time.process_time() - start)
    means = {name: statistics.mean(times[1:]) for name, times in seconds.items()}  # the first run warms up
    for name, mean in means.items():
        line = {"benchmark": f"augment_128_{kind}", "channels": channels, "name": name, "runs": runs}
        line |= {"cpu_ms": round(1000 * mean, 1), "ratio": round(mean / means["volseg"], 2)}
        print(json.dumps(line | {"machine": platform.machine()}), flush=True)


def main(runs: int) -> None:
    torch.set_num_threads(1)
    for channels in (1, 4):
        for kind in ("every", "elastic", "default"):
            compare(kind, channels, runs * (4 if kind == "default" else 1))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10)
