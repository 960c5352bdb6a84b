"""Which number format the forward pass of a training computes in, and where one of them would compute nonsense."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn

from volseg.errors import ConfigError, counted
from volseg.geometry import Shape
from volseg.models import Architecture

Precision = Literal["fp32", "bf16", "fp16"]

_ORDINALS = ("first", "second", "third")


def choose_precision(
    wanted: Precision | Literal["auto"],
    device: torch.device,
    patch_voxels: Shape,
    architecture: Architecture,
    *,
    in_channels: int,
) -> tuple[Precision, str]:
    """The precision to train in, and why, in words.

    `auto` takes bf16 on CUDA where the GPU has it, else fp16; on CPU bf16 where the processor has instructions for it and
    the network is safe from the fault that `wrong_convolution` describes, else fp32.

    Args:
        wanted: the setting.
        device: where the training runs.
        patch_voxels: extents (I, J, K); K is 1 for a 2D network.
        architecture: of the network.
        in_channels: of the network.

    Raises:
        ConfigError: bf16 is demanded where it gives wrong gradients, or fp16 without a GPU.
    """
    if wanted == "fp32":
        return "fp32", "as the settings say"
    if device.type == "cuda":
        return _on_cuda(wanted)
    if wanted == "fp16":
        raise ConfigError(
            f"precision fp16 is for CUDA GPUs, and this training runs on {device.type}; use precision=auto."
        )
    wrong = wrong_convolution(architecture, patch_voxels, in_channels) if device.type == "cpu" else None
    if wanted == "bf16":
        if wrong:
            raise ConfigError(
                f"precision bf16 on CPU gives wrong results for this network: {wrong}. Use precision=fp32 (or auto), or "
                f"other patch_voxels than {list(patch_voxels)}."
            )
        return "bf16", "as the settings say"
    if wrong:
        return "fp32", f"bf16 on this CPU would be wrong: {wrong}"
    if device.type != "cpu" or not cpu_computes_bf16():
        return "fp32", f"the {device.type} has no instructions for bf16 that are known to be faster"
    return (
        "bf16",
        "the CPU has instructions for bf16, and no convolution of this network computes wrongly in it",
    )


def wrong_convolution(architecture: Architecture, patch_voxels: Shape, in_channels: int) -> str | None:
    """The first convolution of a network that torch computes wrongly in bf16 on CPU, in words; None if all are right.

    Measured with torch 2.13 (oneDNN) on a CPU with AVX-512 bf16, against fp32, on one thread: extents 1 to 6 of each axis,
    kernels 3, 5, 7 with padding p = kernel // 2 and with kernel 1 on single axes; channels_last for kernel 3 (of 5 in part, of
    7 not at all), two threads for extents 2 and 3:

    - the weight gradient of a 3D convolution is garbage, without a word, where the first axis has an extent d with
      1 < d <= 2p (kernel 3: d = 2), or the second axis d < p (kernels 5 and up); sometimes memory is corrupted too;
    - the output is garbage where a 3D convolution with one input channel in channels_last order meets d = 1 on the first
      axis and p > 0.

    With a stride of 2 (kernels 3 and 7, channels 8 to 16 and 1 or 2 to 16, extents 1 to 8, 1 to 5 and 1 or 4 of the axes, one thread),
    kernel 3 is wrong too where the second axis has one voxel (the weight gradient is garbage, or memory is overwritten), and
    in channels_last order where the third has; kernel 7 is wrong at d = 6 on the first axis. So a strided convolution is
    refused wherever the second or third axis has d <= p, whatever the order.

    The third axis of a convolution without stride, 2D and 1 x 1 x 1 convolutions (with stride 2 too) and transposed ones with
    kernel = stride (108 shapes, one and two threads) or kernel 3, stride 2 have no such extents; nor have convolutions of each
    channel by itself (kernels 3 and 5, 16 channels, one thread), nor those without padding, whose input is never smaller than
    their kernel (the kernel and up to 3 voxels more per axis, one thread). The extents of every convolution are found by a
    run on tensors without data.
    """
    found: list[str] = []

    def look(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        assert isinstance(module, nn.Conv3d)
        reason = _fault(module, tuple(inputs[0].shape[2:]))
        if reason:
            found.append(reason)

    extents = patch_voxels[: architecture.dimensions]
    with torch.device("meta"), torch.no_grad():
        network = architecture.build(in_channels, 2)
        for module in network.modules():
            if isinstance(module, nn.Conv3d):
                module.register_forward_pre_hook(look)
        network(torch.empty((1, in_channels, *extents)))
    return found[0] if found else None


def cpu_computes_bf16() -> bool:
    """Whether the CPU multiplies bf16 numbers itself: AVX-512 BF16 or AMX. Without, bf16 is slower than fp32."""
    told = getattr(torch.cpu, "get_capabilities", dict)()  # torch 2.10 and up
    return bool(told.get("avx512_bf16") or told.get("amx_bf16"))


def _on_cuda(wanted: Literal["auto", "bf16", "fp16"]) -> tuple[Precision, str]:
    if wanted != "auto":
        return wanted, "as the settings say"
    if torch.cuda.is_bf16_supported(including_emulation=False):
        return "bf16", "the GPU computes bf16, which has the range of fp32"
    return "fp16", "the GPU computes fp16 fast and has no bf16"


def _fault(module: nn.Conv3d, extents: Sequence[int]) -> str | None:
    if module.groups == module.in_channels > 1:
        return None
    kernel = tuple(module.kernel_size)
    reach = [size // 2 for size in kernel]
    first, second = reach[:2]
    if max(module.stride) > 1:
        for axis in (1, 2):
            if extents[axis] <= reach[axis]:
                return (
                    f"a strided convolution with kernel {kernel} meets {counted(extents[axis], 'voxel')} on the "
                    f"{_ORDINALS[axis]} axis (more than {reach[axis]} are safe)"
                )
    if 1 < extents[0] <= 2 * first:
        return f"a convolution with kernel {kernel} meets {extents[0]} voxels on the first axis (more than {2 * first} or 1 are safe)"
    if extents[1] < second:
        return f"a convolution with kernel {kernel} meets {extents[1]} voxels on the second axis (from {second} on it is safe)"
    if extents[0] == 1 and first and module.in_channels == 1:
        return f"a convolution with kernel {kernel} of a single channel meets 1 voxel on the first axis"
    return None
