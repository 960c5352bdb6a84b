import subprocess
import sys
from math import prod

import pytest
import torch
from torch import nn

from volseg.errors import ConfigError, InputError
from volseg.models import Architecture
from volseg.models.extents import ExtentRule
from volseg.models.unetpp import UNetPlusPlus
from volseg.plan import memory
from volseg.plan.memory import NetworkShape, parameter_count, training_bytes
from volseg.plan.request import parse_bytes, readable_bytes

SMALL = UNetPlusPlus(widths=(8, 16, 24))
THICK = UNetPlusPlus(
    widths=(8, 16, 24),
    strides=((2, 2, 1), (2, 2, 2)),
    kernel_sizes=((3, 3, 1), (3, 3, 3), (3, 3, 3)),
)


@pytest.mark.parametrize(("architecture", "patch"), [(SMALL, (48, 40, 56)), (THICK, (64, 48, 20))])
@pytest.mark.parametrize("half", [False, True])
def test_one_run_tells_the_peak_of_all_patches(architecture, patch, half):
    shape = NetworkShape(architecture, 2, 3, half=half)
    peak = memory._peak_bytes(shape, patch, 3)
    assert memory._voxel_bytes(shape) * prod(patch) * 3 == pytest.approx(peak, rel=0.05)


@pytest.mark.parametrize("dims", [2, 3])
def test_a_network_whose_logits_are_smaller_is_told_patch_by_patch(dims):
    shape = NetworkShape(UNetPlusPlus(dimensions=dims, widths=(8, 16), padding="valid"), 1, 3)
    small, large = ((18,) * dims + (1,))[:3], ((58,) * dims + (1,))[:3]
    grown = training_bytes(shape, large, 8, device="cuda") - memory.FIXED_BYTES["cuda"]
    assert grown > 1.2 * prod(large) / prod(small) * (
        training_bytes(shape, small, 8, device="cuda") - memory.FIXED_BYTES["cuda"]
    ), "the share of the margins falls"


def test_self_attention_is_measured_at_the_patch_and_batch_asked_for():
    """Its tokens are 4^3 and 8^3 voxels in one head: beyond the budget with many patches, not with two."""
    with_attention, without = (
        NetworkShape(
            UNetPlusPlus(widths=(8, 16), self_attention_levels=levels, self_attention_gib=0.01), 1, 2
        )
        for levels in ((1,), ())
    )

    def extra(patch, batch):
        return training_bytes(with_attention, patch, batch) - training_bytes(without, patch, batch)

    small, large = (8, 8, 8), (16, 16, 16)
    assert parameter_count(with_attention) > parameter_count(without)
    assert extra(large, 2) > 8 * extra(small, 2), "more than the voxels grow"
    with pytest.raises(InputError, match="batch of 40"):
        training_bytes(with_attention, large, 40)


class Plain(Architecture):
    """A single convolution."""

    name: str = "plain"

    def build(self, in_channels, label_count, *, head=None):
        network = nn.Conv3d(in_channels, label_count, 1)
        network.extents = ExtentRule.multiples_of((16, 16, 16))
        return network


def test_the_count_of_a_single_convolution():
    """Logits [N], their float copies and gradients: between 4 and 20 numbers per channel and voxel."""
    shape = NetworkShape(Plain(), 1, 2)
    assert parameter_count(shape) == 4
    per_voxel = memory._voxel_bytes(shape)
    assert 4 * (1 + 2 + 2 + 4 * 2) < per_voxel < 4 * (1 + 2 + 20 * 2)


def test_what_makes_it_grow():
    shape = NetworkShape(SMALL, 1, 3)
    base = training_bytes(shape, (32, 32, 32), 2)
    assert training_bytes(shape, (32, 32, 32), 4) > base
    assert training_bytes(shape, (64, 32, 32), 2) == training_bytes(shape, (32, 32, 32), 4)
    assert training_bytes(NetworkShape(SMALL, 1, 30), (32, 32, 32), 2) > base
    assert training_bytes(NetworkShape(SMALL, 1, 3, half=True), (32, 32, 32), 2) < base
    assert training_bytes(shape, (32, 32, 32), 2, optimizer="sgd") < base


class Unknown(Architecture):
    """Something that cannot run without data."""

    name: str = "unknown"

    def build(self, in_channels, label_count, *, head=None):
        class Network(nn.Module):
            def __init__(self):
                super().__init__()
                self.extents = ExtentRule.multiples_of((16, 16, 16))
                self.weight = nn.Parameter(torch.ones(1))

            def forward(self, batch):
                return batch * float(batch.sum())

        return Network()


def test_a_network_that_needs_data_is_refused():
    with pytest.raises(ConfigError, match="memory of 'unknown' cannot be told"):
        training_bytes(NetworkShape(Unknown(), 1, 2), (32, 32, 32), 2)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("8G", 8 << 30),
        ("7.5 GiB", 15 << 29),
        ("512m", 512 << 20),
        ("1000", 1000),
        ("2TB", 2 << 40),
        ("64 kB", 64 << 10),
    ],
)
def test_sizes(text, size):
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "G", "-8G", "8X", "0", "8 G G", "1e9"])
def test_no_sizes(text):
    with pytest.raises(ConfigError, match="is no size of memory"):
        parse_bytes(text)


def test_readable_sizes():
    assert [readable_bytes(size) for size in (8 << 30, 15 << 29, 24 << 30, 512 << 20)] == [
        "8 GiB",
        "7.5 GiB",
        "24 GiB",
        "512 MiB",
    ]


# Not ru_maxrss, which a new program inherits from the process that started it.
STEP = """
import copy, pathlib, sys, torch
from volseg.models.unetpp import UNetPlusPlus
from volseg.train.losses.heads import training_loss
from volseg.train.settings import LossConfig
from volseg.train.targets import Target
patch, batch, channels, labels, fields = eval(sys.argv[1])
network = UNetPlusPlus(**fields).build(channels, labels).train()
average = copy.deepcopy(network).requires_grad_(False)
optimizer = torch.optim.AdamW(network.parameters())
axes = fields.get("dimensions", 3)
for _ in range(2):
    truth = torch.randint(0, labels, (batch, 1, *patch))
    target = Target(torch.zeros(batch, labels, *patch).scatter_(1, truth, 1), True)
    heads = [head.reshape(batch, labels, *patch) for head in network(torch.randn(batch, channels, *patch[:axes]))]
    loss = training_loss(heads, target, LossConfig(), progress=0.5)
    del heads
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    optimizer.step()
status = pathlib.Path("/proc/self/status").read_text()
print(int(status.split("VmHWM:")[1].split()[0]) * 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from /proc")
@pytest.mark.parametrize(
    ("patch", "batch", "channels", "labels", "fields"),
    [
        ((40, 56, 40), 2, 1, 3, {"widths": (16, 32, 80, 160)}),
        (
            (96, 96, 32),
            2,
            4,
            4,
            {
                "widths": (16, 32, 80, 160, 320),
                "kernel_sizes": ((3, 3, 1), *((3, 3, 3),) * 4),
                "strides": ((2, 2, 1), *((2, 2, 2),) * 3),
            },
        ),
        ((320, 256, 1), 4, 1, 5, {"dimensions": 2, "widths": (32, 64, 128, 256, 512)}),
    ],
)
def test_the_estimate_against_resident_memory(patch, batch, channels, labels, fields):
    """Never much below what a training step really takes, and not far above."""
    arguments = [sys.executable, "-c", STEP, repr((patch, batch, channels, labels, fields))]
    measured = int(subprocess.run(arguments, capture_output=True, text=True, check=True).stdout)
    architecture = UNetPlusPlus(**fields)
    estimate = training_bytes(NetworkShape(architecture, channels, labels), patch, batch, device="cpu")
    assert 0.95 < estimate / measured < 1.3
