"""A budget on imagined machines that compute so many operations per second, and once on this one."""

from functools import partial
from math import prod

import pytest

from tests.plan.fingerprints import KINDS, Imagined
from volseg.errors import ConfigError
from volseg.plan.budget import LEAST_STEPS, MEASURING_SHARE, MOST_MEASUREMENTS, enough_steps, fit_budget
from volseg.plan.planner import plan_training
from volseg.plan.request import PlanRequest
from volseg.plan.spacing import median_share
from volseg.plan.throughput import MEASURED_STEPS, measure_step, step_flops, surroundings
from volseg.preprocess.spatial import Respace

HOUR = 3600
RAM = 4 << 30


class Machine:
    """Measures a step as its operations over a speed, and remembers what it measured."""

    def __init__(self, flops_per_second):
        self.speed, self.steps = flops_per_second, []

    def __call__(self, config):
        self.steps.append(step_flops(config) / self.speed)
        return self.steps[-1]

    @property
    def spent(self):
        return MEASURED_STEPS * sum(self.steps)


def fit(kind, seconds, speed, *, dataset=None, device="cpu", **asked):
    machine = Machine(speed)
    memory = {"max_ram": RAM} if device == "cpu" else {"max_vram": 2 * RAM}
    asked = {"dims": "2" if kind == "slices" else "3"} | asked
    request = PlanRequest(device=device, **memory, **asked)
    plan_for = partial(plan_training, dataset or Imagined(), KINDS[kind])
    return fit_budget(seconds, plan_for, request, measure=machine), plan_for(request), machine


def taken(plan, step_seconds):
    """Seconds of the whole training as the planner sees them."""
    config = plan.config
    around = surroundings(config, plan.fingerprint, step_seconds)
    times = -(-config.steps // config.validation.every_steps)
    cases = min(around.held_out, config.validation.max_cases or around.held_out)
    return around.preparation + around.end + config.steps * step_seconds + times * cases * around.case


def spacing_of(config):
    return next(step.spacing_mm for step in config.preprocess if isinstance(step, Respace))


def test_enough_time_gives_up_nothing():
    fitted, full, machine = fit("hippocampus", 10 * HOUR, 1e12)
    assert fitted.config == full.config
    assert "Nothing was given up" in fitted.reasons["3d"]["steps"]
    assert len(machine.steps) == 1


def test_less_time_shortens_the_schedule_first():
    fitted, full, machine = fit("hippocampus", 1 * HOUR, 2e11)
    assert LEAST_STEPS <= fitted.config.steps < full.config.steps
    assert fitted.config.architecture == full.config.architecture
    assert fitted.config.patch_voxels == full.config.patch_voxels
    assert fitted.config.optimizer.warmup_steps < full.config.optimizer.warmup_steps
    assert fitted.config.optimizer.ema_decay == pytest.approx(1 - 10 / fitted.config.steps, abs=1e-4)
    note = fitted.reasons["3d"]["steps"]
    assert f"{full.config.steps} steps at {machine.steps[0]:.2g} s" in note
    assert f"schedule of {fitted.config.steps} steps instead of {full.config.steps}" in note
    assert set(fitted.notes) >= {note}


@pytest.mark.parametrize("kind", ["hippocampus", "cardiac"])
@pytest.mark.parametrize(("seconds", "speed"), [(0.5 * HOUR, 2e11), (2 * HOUR, 1e13)])
def test_the_whole_training_stays_within_the_budget(kind, seconds, speed):
    fitted, full, machine = fit(kind, seconds, speed)
    assert taken(fitted, step_flops(fitted.config) / speed) + machine.spent <= 1.001 * seconds
    assert fitted.config.steps >= min(LEAST_STEPS, full.config.steps)
    assert len(machine.steps) <= MOST_MEASUREMENTS
    assert machine.spent <= max(MEASURING_SHARE * seconds, MEASURED_STEPS * machine.steps[0])


def test_ever_less_time_gives_up_ever_more():
    costs = []
    for hours in (100, 30, 6, 2, 0.6):
        fitted, full, _ = fit("cardiac", hours * HOUR, 2e11)
        costs.append(step_flops(fitted.config))
        assert fitted.config.steps <= full.config.steps
    assert costs == sorted(costs, reverse=True)
    assert costs[-1] < 0.3 * costs[0]
    assert prod(spacing_of(fitted.config)) > prod(spacing_of(full.config))
    note = fitted.reasons[fitted.chosen]["steps"]
    assert "target spacing 1.4 x 1.4 x" in note
    assert "patch " in note


def test_coarser_voxels_rather_than_patches_that_see_little():
    fitted, full, _ = fit("abdomen", 2 * HOUR, 2e11, resolution="full")
    assert median_share(full.config, full.fingerprint) < 0.05
    assert median_share(fitted.config, fitted.fingerprint) > 0.1
    assert LEAST_STEPS <= enough_steps(fitted) < 1.2 * LEAST_STEPS <= 1.2 * fitted.config.steps
    assert prod(spacing_of(fitted.config)) > 4 * prod(spacing_of(full.config))
    assert enough_steps(full) > 2 * LEAST_STEPS


@pytest.mark.slow
def test_on_a_gpu_width_goes_before_resolution():
    fitted, full, _ = fit("prostate", 0.6 * HOUR, 2e12, device="cuda", max_batch_size=2)
    assert full.config.architecture.widths[0] == 32
    assert fitted.config.architecture.widths[0] in (16, 24)
    assert spacing_of(fitted.config) == spacing_of(full.config)
    assert f"base width 32 → {fitted.config.architecture.widths[0]}" in fitted.reasons["3d"]["steps"]


@pytest.mark.slow
def test_smaller_patches_do_not_come_in_larger_batches():
    fitted, full, _ = fit(
        "lits", 0.5 * HOUR, 4e12, device="cuda", dataset=Imagined(names=("liver", "lesion"))
    )
    assert prod(fitted.config.patch_voxels) < prod(full.config.patch_voxels)
    assert fitted.config.batch_size <= full.config.batch_size


def test_the_wishes_of_the_request_stay():
    fitted, _, _ = fit("hippocampus", 0.2 * HOUR, 1e11, base_width=32, dims="2")
    assert fitted.config.architecture.dimensions == 2
    assert fitted.config.architecture.widths[0] == 32


def test_a_slow_measurement_changes_the_choice():
    """A machine that is slow on the full plan alone: what its operations promised does not hold."""
    fair, full, _ = fit("cardiac", 1 * HOUR, 2e12)
    assert fair.config.patch_voxels == full.config.patch_voxels

    def measure(config):
        slow = 50 if config.patch_voxels == full.config.patch_voxels else 1
        return slow * step_flops(config) / 2e12

    plan_for = partial(plan_training, Imagined(), KINDS["cardiac"])
    fitted = fit_budget(1 * HOUR, plan_for, PlanRequest(device="cpu", max_ram=RAM, dims="3"), measure=measure)
    assert fitted.config.patch_voxels != full.config.patch_voxels
    assert fitted.config.steps >= LEAST_STEPS


def test_validation_keeps_to_its_share():
    fitted, _, _ = fit("cardiac", 2 * HOUR, 2e11)
    around = surroundings(fitted.config, fitted.fingerprint, step_flops(fitted.config) / 2e11)
    times = fitted.config.steps / fitted.config.validation.every_steps
    assert times * fitted.config.validation.max_cases * around.case <= 0.1 * 2 * HOUR
    assert f"{fitted.config.validation.max_cases} of 20 held-out cases" in fitted.reasons["3d"]["validation"]


def test_nobody_is_held_out():
    fitted, _, _ = fit("hippocampus", 1 * HOUR, 2e11, fold="all")
    assert fitted.reasons["3d"]["validation"] == "No case is held out."
    assert fitted.config.validation.every_steps == -(-fitted.config.steps // 12)


def test_too_little_time_is_told_with_its_reasons():
    with pytest.raises(ConfigError, match=r"budget of 45 s has room for \d+ training steps.*Give more"):
        fit("cardiac", 45, 2e11)


@pytest.mark.slow
def test_a_real_measurement_fits():
    """The chosen plan, measured again, keeps its step time within a factor of two."""
    plan_for = partial(plan_training, Imagined(channels=("MR",)), KINDS["hippocampus"])
    seconds: dict[tuple[int, ...], float] = {}

    def measure(config):
        seconds[config.patch_voxels] = measure_step(config, device="cpu")
        return seconds[config.patch_voxels]

    fitted = fit_budget(
        0.25 * HOUR, plan_for, PlanRequest(device="cpu", max_ram=RAM, dims="3"), measure=measure
    )
    again = measure_step(fitted.config, device="cpu")
    assert 0.5 < again / seconds[fitted.config.patch_voxels] < 2
    assert taken(fitted, again) < 2 * 0.25 * HOUR
