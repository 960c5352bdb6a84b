import pytest
import torch
from torch import nn

from volseg.train.optimise import Plateau, learning_rate, make_optimizer, update_average
from volseg.train.settings import OptimizerConfig

SETTINGS = OptimizerConfig(learning_rate=0.1, warmup_steps=10)


def test_learning_rate_warms_up_then_follows_a_cosine_to_zero():
    rates = [learning_rate(step, 110, SETTINGS) for step in range(1, 111)]
    assert rates[0] == pytest.approx(0.01)
    assert rates[9] == pytest.approx(0.1)
    assert rates[59] == pytest.approx(0.05)
    assert rates[-1] == pytest.approx(0)
    assert rates[9:] == sorted(rates[9:], reverse=True)


def test_poly_equals_torchs_polynomial():
    settings = OptimizerConfig(learning_rate=0.1, warmup_steps=0, schedule="poly", poly_power=0.7)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    schedule = torch.optim.lr_scheduler.PolynomialLR(optimizer, total_iters=50, power=0.7)
    for step in range(1, 51):
        optimizer.step()
        schedule.step()
        assert learning_rate(step, 50, settings) == pytest.approx(schedule.get_last_lr()[0])


def test_cosine_equals_torchs_annealing():
    settings = OptimizerConfig(learning_rate=0.1, warmup_steps=0)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=50)
    for step in range(1, 51):
        optimizer.step()
        schedule.step()
        assert learning_rate(step, 50, settings) == pytest.approx(schedule.get_last_lr()[0], abs=1e-9)


def test_plateau_keeps_the_rate_until_it_drops():
    settings = OptimizerConfig(learning_rate=0.1, warmup_steps=10, schedule="plateau", plateau_factor=0.2)
    assert learning_rate(5, 100, settings) == pytest.approx(0.05)
    assert learning_rate(11, 100, settings) == learning_rate(100, 100, settings) == pytest.approx(0.1)
    assert learning_rate(60, 100, settings, 2) == pytest.approx(0.1 * 0.04)
    assert learning_rate(60, 100, SETTINGS, 2) == learning_rate(60, 100, SETTINGS)


def test_plateau_drops_as_torchs_scheduler_does():
    """torch drops after more than `patience` bad values, here after `patience`, as the settings say."""
    dice = [0.1, 0.3, 0.2, 0.3, 0.25, 0.4, 0.4, 0.4, 0.3, 0.1, 0.2, 0.5, 0.1]
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, mode="max", factor=0.5, patience=2, threshold=0
    )
    plateau = Plateau()
    for value in dice:
        schedule.step(value)
        plateau.update(value, patience=3)
        assert 0.5**plateau.drops == schedule.get_last_lr()[0]
    assert plateau.drops == 2


def test_plateau_goes_on_from_its_state():
    whole, first = Plateau(), Plateau()
    for value in (0.5, 0.4, 0.3):
        first.update(value, patience=3)
    second = Plateau(**vars(first))
    second.update(0.2, patience=3)
    for value in (0.5, 0.4, 0.3, 0.2):
        whole.update(value, patience=3)
    assert vars(second) == vars(whole) == {"best": 0.5, "stalled": 0, "drops": 1}


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


def test_sgd_step_is_nesterovs():
    """Sutskever et al. 2013 as torch writes it: v = m·v + g; w = w - rate·(g + m·v)."""
    module = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        module.weight.fill_(1.0)
    settings = OptimizerConfig(name="sgd", learning_rate=0.1, momentum=0.9, weight_decay=0)
    optimizer = make_optimizer(module, settings)
    weight, velocity = 1.0, 0.0
    for _ in range(3):
        optimizer.zero_grad()
        (0.5 * module.weight**2).sum().backward()
        optimizer.step()
        velocity = 0.9 * velocity + weight
        weight -= 0.1 * (weight + 0.9 * velocity)
        assert module.weight.item() == pytest.approx(weight)


def test_average_moves_towards_the_weights_and_copies_counters():
    module = nn.BatchNorm3d(2)
    average = {name: torch.zeros_like(value) for name, value in module.state_dict().items()}
    module.num_batches_tracked.fill_(7)
    update_average(average, module, step=10_000, decay=0.9)
    assert average["weight"].tolist() == pytest.approx([0.1, 0.1])
    assert average["num_batches_tracked"].item() == 7
    update_average(average, module, step=0, decay=0.9)  # early: (1 + 0) / (10 + 0) of the old
    assert average["weight"].tolist() == pytest.approx([0.91, 0.91])
