import pytest
import torch
from torch import nn

from volseg.errors import ConfigError
from volseg.models.encoders import ENCODERS
from volseg.models.unetpp import UNetPlusPlus
from volseg.train import precision
from volseg.train.precision import choose_precision, cpu_computes_bf16, wrong_convolution

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
HALVED = UNetPlusPlus(widths=(4, 4, 4, 4))
"""Kernel 3, three times halved."""
STRIDED = UNetPlusPlus(
    widths=(4, 4),
    strides=((2, 1, 1),),
    kernel_sizes=((1, 1, 1), (3, 3, 3)),
    encoder=ENCODERS.build({"name": "plain", "downsample": "strided"}),
)


@pytest.mark.parametrize(
    ("architecture", "patch_voxels", "wrong"),
    [
        (HALVED, (40, 56, 40), False),  # first axis 40, 20, 10, 5
        (HALVED, (16, 32, 32), True),  # ... 2
        (HALVED, (32, 16, 16), False),  # 2 voxels on the other axes
        (HALVED, (8, 16, 16), True),  # 8, 4, 2, 1
        (UNetPlusPlus(widths=(4, 4), strides=((4, 4, 4),)), (8, 16, 16), True),
        (UNetPlusPlus(widths=(4, 4), strides=((8, 4, 4),)), (8, 16, 16), False),  # 8, 1: never 2
        (UNetPlusPlus(widths=(4, 4, 4), kernel_sizes=((3, 3, 3), (3, 3, 3), (1, 3, 3))), (8, 16, 16), False),
        (UNetPlusPlus(widths=(4, 4), kernel_sizes=((5, 3, 3), (5, 3, 3))), (8, 16, 16), True),  # 4 <= 2·2
        (UNetPlusPlus(widths=(4, 4), kernel_sizes=((3, 5, 3), (3, 5, 3))), (16, 2, 16), True),  # 1 < 2
        (UNetPlusPlus(widths=(4, 4), kernel_sizes=((3, 3, 5), (3, 3, 5))), (16, 16, 2), False),
        (STRIDED, (16, 1, 16), True),  # kernel 3 with a stride meets 1 voxel on the second axis
        (STRIDED, (16, 16, 1), True),  # ... on the third, which is wrong in channels_last order
        (STRIDED, (16, 2, 2), False),
        (
            UNetPlusPlus(widths=(4, 4), encoder=ENCODERS.build({"name": "resnet"})),
            (4, 32, 32),
            True,
        ),  # 4 <= 2·3
        (UNetPlusPlus(dimensions=2, widths=(4, 4, 4)), (8, 8, 1), False),
        (UNetPlusPlus(widths=(4, 4), strides=((1, 2, 2),)), (1, 16, 16), True),  # a channel, one voxel
    ],
)
def test_the_fault_is_foreseen(architecture, patch_voxels, wrong):
    assert (wrong_convolution(architecture, patch_voxels, 1) is not None) == wrong
    if wrong:
        with pytest.raises(ConfigError, match="precision=fp32"):
            choose_precision("bf16", CPU, patch_voxels, architecture, in_channels=1)
    else:
        assert choose_precision("bf16", CPU, patch_voxels, architecture, in_channels=1)[0] == "bf16"
    assert choose_precision("fp32", CPU, patch_voxels, architecture, in_channels=1)[0] == "fp32"
    assert choose_precision("bf16", CUDA, patch_voxels, architecture, in_channels=1)[0] == "bf16"


def gradients(architecture, patch_voxels, half):
    torch.manual_seed(0)
    network = architecture.build(2, 2).train()
    batch = torch.randn(2, 2, *patch_voxels)
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        heads = network(batch)
    sum(head.float().sin().mean() for head in heads).backward()
    return torch.cat([p.grad.flatten() for p in network.parameters() if p.ndim == 5])


@pytest.mark.skipif(
    not cpu_computes_bf16(), reason="the CPU has no bf16 instructions, so oneDNN takes another way"
)
@pytest.mark.parametrize("patch_voxels", [(12, 8, 8), (20, 4, 8), (4, 16, 8)])
def test_what_is_said_to_be_right_is_right(patch_voxels):
    architecture = UNetPlusPlus(widths=(8, 8, 8), norm="none")
    assert wrong_convolution(architecture, patch_voxels, 1) is None or patch_voxels[0] == 4
    if patch_voxels[0] == 4:
        architecture = architecture.model_copy(update={"kernel_sizes": ((1, 3, 3),) * 3})
        assert wrong_convolution(architecture, patch_voxels, 1) is None
    exact, half = (gradients(architecture, patch_voxels, half) for half in (False, True))
    assert (exact - half).norm() < 0.1 * exact.norm()


def test_a_second_channel_is_safe_at_one_voxel():
    flat = UNetPlusPlus(widths=(4, 4), strides=((1, 2, 2),))
    assert wrong_convolution(flat, (1, 16, 16), 1) is not None
    assert wrong_convolution(flat, (1, 16, 16), 2) is None


def weight_gradient(convolution, batch, half):
    convolution.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        given = convolution(batch)
    (given.float() * torch.linspace(-1, 1, given.numel()).reshape(given.shape)).sum().backward()
    return convolution.weight.grad.clone()


SAFE = [
    (nn.Conv3d(16, 16, 3, padding=1, groups=16), (2, 4, 4)),
    (nn.Conv3d(16, 16, 3, 2, padding=1, groups=16), (4, 1, 4)),
    (nn.Conv3d(16, 16, 5, padding=2, groups=16), (4, 1, 4)),
    (nn.Conv3d(8, 16, 1, 2), (2, 1, 1)),
    (nn.Conv3d(8, 16, 3, 2, padding=1), (6, 2, 4)),
    (nn.Conv3d(1, 16, 7, 2, padding=3), (8, 5, 4)),
]
"""Convolutions of the encoders, with extents at which they were measured to be right."""


@pytest.mark.skipif(
    not cpu_computes_bf16(), reason="the CPU has no bf16 instructions, so oneDNN takes another way"
)
@pytest.mark.parametrize(("convolution", "extents"), SAFE)
def test_convolutions_of_the_encoders_are_right_where_it_is_said(convolution, extents):
    assert precision._fault(convolution, extents) is None
    torch.manual_seed(0)
    batch = torch.randn(2, convolution.in_channels, *extents)
    exact, half = (weight_gradient(convolution, batch, half) for half in (False, True))
    assert (exact - half).norm() < 0.05 * exact.norm()


def test_auto_on_cpu_says_why(monkeypatch):
    monkeypatch.setattr(precision, "cpu_computes_bf16", lambda: True)
    assert choose_precision("auto", CPU, (40, 56, 40), HALVED, in_channels=1)[0] == "bf16"
    chosen, reason = choose_precision("auto", CPU, (16, 16, 16), HALVED, in_channels=1)
    assert chosen == "fp32"
    assert "2 voxels on the first axis" in reason
    monkeypatch.setattr(precision, "cpu_computes_bf16", lambda: False)
    chosen, reason = choose_precision("auto", CPU, (40, 56, 40), HALVED, in_channels=1)
    assert (chosen, "no instructions for bf16" in reason) == ("fp32", True)


@pytest.mark.parametrize(("supported", "expected"), [(True, "bf16"), (False, "fp16")])
def test_auto_on_cuda(monkeypatch, supported, expected):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: supported)
    assert choose_precision("auto", CUDA, (16, 16, 16), HALVED, in_channels=1)[0] == expected
    assert choose_precision("fp16", CUDA, (16, 16, 16), HALVED, in_channels=1)[0] == "fp16"


def test_fp16_without_a_gpu_is_refused():
    with pytest.raises(ConfigError, match="precision=auto"):
        choose_precision("fp16", CPU, (40, 40, 40), HALVED, in_channels=1)
