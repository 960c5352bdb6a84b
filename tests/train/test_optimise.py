import pytest
import torch
from torch import nn

from volseg.errors import ConfigError
from volseg.train.optimise import check_precision, learning_rate, make_optimizer, update_average
from volseg.train.settings import OptimizerConfig

SETTINGS = OptimizerConfig(learning_rate=0.1, warmup_steps=10)


def test_learning_rate_warms_up_then_follows_a_cosine_to_zero():
    rates = [learning_rate(step, 110, SETTINGS) for step in range(1, 111)]
    assert rates[0] == pytest.approx(0.01)
    assert rates[9] == pytest.approx(0.1)
    assert rates[59] == pytest.approx(0.05)
    assert rates[-1] == pytest.approx(0)
    assert rates[9:] == sorted(rates[9:], reverse=True)


def test_warmup_longer_than_the_training():
    assert learning_rate(5, 5, SETTINGS) == pytest.approx(0.1)


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_biases_and_norms_are_not_decayed(name):
    module = nn.Sequential(nn.Conv3d(1, 2, 1), nn.InstanceNorm3d(2, affine=True))
    optimizer = make_optimizer(module, OptimizerConfig(name=name, weight_decay=0.1))
    decayed, free = optimizer.param_groups
    assert [p.ndim for p in decayed["params"]] == [5]
    assert decayed["weight_decay"] == 0.1
    assert len(free["params"]) == 3
    assert free["weight_decay"] == 0
    if name == "sgd":
        assert decayed["nesterov"]


def test_average_moves_towards_the_weights_and_copies_counters():
    module = nn.BatchNorm3d(2)
    average = {name: torch.zeros_like(value) for name, value in module.state_dict().items()}
    module.num_batches_tracked.fill_(7)
    update_average(average, module, step=10_000, decay=0.9)
    assert average["weight"].tolist() == pytest.approx([0.1, 0.1])
    assert average["num_batches_tracked"].item() == 7
    update_average(average, module, step=0, decay=0.9)  # early: (1 + 0) / (10 + 0) of the old
    assert average["weight"].tolist() == pytest.approx([0.91, 0.91])


def test_bf16_on_cpu_is_refused_where_a_level_is_two_voxels_long():
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    check_precision("bf16", cpu, (40, 56, 40), (8, 8, 8))  # 40, 20, 10, 5
    check_precision("fp32", cpu, (16, 16, 16), (8, 8, 8))
    check_precision("bf16", cuda, (16, 16, 16), (8, 8, 8))
    with pytest.raises(ConfigError, match="precision=fp32"):
        check_precision("bf16", cpu, (16, 16, 16), (8, 8, 8))
