"""A plan that fits into a given time, and what it gave up for that.

The smaller the budget the less is asked for, in this order: fewer steps; patches by twos; fewer feature maps; smaller patches,
or coarser voxels of which a patch holds more. The first plan is taken that has enough steps: 1500, and up to eight times as
many where a patch holds less than an eighth of the median case, for then the same organ looks different in every patch.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import ceil, floor, log
from typing import Any

from volseg.errors import ConfigError
from volseg.plan.concessions import ENOUGH_SHARE, concessions, given_up
from volseg.plan.duration import readable_duration
from volseg.plan.planner import Plan
from volseg.plan.recipe import optimizer_settings
from volseg.plan.request import PlanRequest
from volseg.plan.spacing import median_share
from volseg.plan.throughput import MEASURED_STEPS, Surroundings, step_flops, surroundings
from volseg.train.settings import TrainConfig, ValidationConfig

LEAST_STEPS = 1500
"""Below so many steps a cheaper network learns more than a richer one."""

MOST_FACTOR = 8.0
"""However little of a case a patch holds, so many times LEAST_STEPS are enough."""

SPARE = 0.1
"""Part of the budget that is kept for what cannot be foreseen: waiting for data, checkpoints, slow cases."""

VALIDATION_SHARE = 0.1
"""Part of the budget that validation during the training may take."""

END_SHARE = 0.25
"""Where predicting the held-out cases at the end takes more than this, it is done with less overlap and mirroring."""

MEASURING_SHARE, MOST_MEASUREMENTS = 0.1, 4
"""What the measurements may take of the budget, and how many they may be."""

_USELESS_STEPS = 100
_CHEAPER = 0.9
"""A plan with more than this part of the operations of the one before is no concession."""
_SLOWEST_FLOPS = 1e10
"""Operations per second that any machine reaches."""
_PLANNED_VALIDATIONS = 12
_FEW_CASES = 4
_QUICK_OVERLAP = 0.25
_MEMORY = 10


@dataclass
class _Candidate:
    """A plan, its operations per step and, once measured, its seconds per step."""

    plan: Plan
    flops: float
    measured: float | None = None


def fit_budget(
    seconds: float,
    plan_for: Callable[[PlanRequest], Plan],
    request: PlanRequest,
    *,
    measure: Callable[[TrainConfig], float],
) -> Plan:
    """The richest plan that has enough steps (or all of its own) in the time, with its schedule fitted to that.

    At most four plans are measured, which takes about a tenth of the budget at most (more only if three steps of the cheapest
    plan do); the step times of the others are told from their operations. What was given up is in the plan's notes.

    Args:
        seconds: from now to the finished package.
        plan_for: plans within a request.
        request: of the full plan.
        measure: seconds of one training step; it takes three steps to find out.

    Raises:
        ConfigError: not even the cheapest plan has 100 steps in that time.
    """
    search = _Search(seconds, measure, [_candidate(plan_for(request))])
    if not search.full_is_quick():
        search.candidates += _cheaper(search.candidates[0], plan_for, request)
    chosen = search.run()
    step_seconds, fingerprint = search.step_seconds(chosen), chosen.plan.fingerprint
    config, steps = search.fitted(chosen)
    around = surroundings(config, fingerprint, step_seconds)
    if steps < min(_USELESS_STEPS, config.steps):
        raise ConfigError(
            f"a budget of {readable_duration(seconds)} has room for {steps} training steps of even the cheapest plan. One takes "
            f"{readable_duration(step_seconds)}, preparing {fingerprint.cases} cases about "
            f"{readable_duration(around.preparation)} and predicting those held out {readable_duration(around.end)}; fewer "
            f"than {_USELESS_STEPS} steps learn nothing. Give more time, or plan without a budget."
        )
    config = _scheduled(config, around, steps, seconds)
    full = search.candidates[0]
    reasons = dict(chosen.plan.reasons.get(chosen.plan.chosen, {}))
    reasons["steps"] = _what_it_cost(
        full.plan.config, config, seconds, full_step=search.step_seconds(full), step=step_seconds
    )
    reasons["validation"] = _on_validation(config, around)
    name = chosen.plan.chosen
    return replace(chosen.plan, configs={name: config}, reasons={name: reasons})


@dataclass
class _Search:
    """Which candidate to take; measures as few as it can."""

    seconds: float
    measure: Callable[[TrainConfig], float]
    candidates: list[_Candidate]
    """From rich to cheap."""
    spent: float = 0.0
    measurements: int = 0

    def full_is_quick(self) -> bool:
        """Measure the full plan first if any machine does that in time; whether it then fits."""
        full = self.candidates[0]
        if not self._affordable(full.flops / _SLOWEST_FLOPS):
            return False
        self._measure(full)
        return self._fits(full)

    def run(self) -> _Candidate:
        """The first candidate that fits; the cheapest if none does."""
        if not self.measurements:
            self._measure(self.candidates[-1])
        while True:
            chosen = next(filter(self._fits, self.candidates), self.candidates[-1])
            if chosen.measured is not None or not self._affordable(self.step_seconds(chosen)):
                return chosen
            self._measure(chosen)

    def step_seconds(self, candidate: _Candidate) -> float:
        """As measured, or told from the candidate measured that is nearest in operations."""
        if candidate.measured is not None:
            return candidate.measured
        nearest = min(
            (other for other in self.candidates if other.measured is not None),
            key=lambda other: abs(log(other.flops / candidate.flops)),
        )
        assert nearest.measured is not None
        return nearest.measured * candidate.flops / nearest.flops

    def fitted(self, candidate: _Candidate) -> tuple[TrainConfig, int]:
        """The configuration, with quicker inference where the end would take too long, and its steps in the time."""
        step_seconds, config = self.step_seconds(candidate), candidate.plan.config
        around = surroundings(config, candidate.plan.fingerprint, step_seconds)
        if around.end > END_SHARE * self.seconds:
            tile = config.tile.model_copy(update={"overlap": min(config.tile.overlap, _QUICK_OVERLAP)})
            config = config.model_copy(update={"mirror_axes": (), "tile": tile})
            around = surroundings(config, candidate.plan.fingerprint, step_seconds)
        validation = min(VALIDATION_SHARE * self.seconds, _PLANNED_VALIDATIONS * around.end)
        left = self.seconds * (1 - SPARE) - self.spent - around.preparation - around.end - validation
        return config, max(0, min(config.steps, floor(left / step_seconds)))

    def _fits(self, candidate: _Candidate) -> bool:
        return self.fitted(candidate)[1] >= min(enough_steps(candidate.plan), candidate.plan.config.steps)

    def _affordable(self, step_seconds: float) -> bool:
        cost = self.spent + MEASURED_STEPS * step_seconds
        return self.measurements < MOST_MEASUREMENTS and cost <= MEASURING_SHARE * self.seconds

    def _measure(self, candidate: _Candidate) -> None:
        candidate.measured = self.measure(candidate.plan.config)
        self.measurements += 1
        self.spent += MEASURED_STEPS * candidate.measured


def enough_steps(plan: Plan) -> int:
    """Steps below which a cheaper plan is better: 1500 / (share of the median case in a patch / an eighth), within 1 to 8 times 1500."""
    share = median_share(plan.config, plan.fingerprint)
    return round(LEAST_STEPS * min(MOST_FACTOR, max(1.0, ENOUGH_SHARE / share)))


def _candidate(plan: Plan) -> _Candidate:
    return _Candidate(plan, step_flops(plan.config))


def _cheaper(
    full: _Candidate, plan_for: Callable[[PlanRequest], Plan], request: PlanRequest
) -> Iterator[_Candidate]:
    """Plans that take ever fewer operations per step, or see more of a case with as many."""
    last = full
    for cheaper in concessions(full.plan, request):
        try:
            candidate = _candidate(plan_for(cheaper))
        except ConfigError:  # a patch so small, or voxels so coarse, that the rules find no network
            return
        if candidate.flops < _CHEAPER * last.flops or enough_steps(candidate.plan) < _CHEAPER * enough_steps(
            last.plan
        ):
            last = candidate
            yield candidate


def _scheduled(config: TrainConfig, around: Surroundings, steps: int, seconds: float) -> TrainConfig:
    """The configuration with its warm-up, average and validation fitted to a number of steps."""
    changes: dict[str, Any] = {"steps": steps, "validation": _validation(config, around, steps, seconds)}
    if steps < config.steps:
        optimizer = optimizer_settings(steps)
        # The average remembers at most a tenth of the steps, or it would still hold the beginning.
        decay = min(optimizer.ema_decay, 1 - _MEMORY / max(steps, 2 * _MEMORY))
        changes["optimizer"] = optimizer.model_copy(update={"ema_decay": round(decay, 4)})
    return config.model_copy(update=changes)


def _validation(config: TrainConfig, around: Surroundings, steps: int, seconds: float) -> ValidationConfig:
    """As often and on as many cases as planned, if that takes no more than its share: else fewer cases, then less often."""
    planned = config.validation
    cases = min(around.held_out, planned.max_cases or around.held_out)
    affordable = floor(VALIDATION_SHARE * seconds / around.case) if cases else _PLANNED_VALIDATIONS
    if cases * _PLANNED_VALIDATIONS > affordable:
        few = min(cases, _FEW_CASES)
        cases = max(1, min(cases, max(few, affordable // _PLANNED_VALIDATIONS), affordable))
    times = max(1, min(_PLANNED_VALIDATIONS, affordable // max(1, cases)))
    most = planned.max_cases if cases == around.held_out else cases
    return planned.model_copy(update={"every_steps": max(1, ceil(steps / times)), "max_cases": most})


def _what_it_cost(
    full: TrainConfig, config: TrainConfig, seconds: float, *, full_step: float, step: float
) -> str:
    """One paragraph: the full plan, the fitted one, and each difference."""
    took = readable_duration(full.steps * full_step)
    begin = (
        f"The full plan would take {full.steps} steps at {readable_duration(full_step)} = {took}, and what comes before and "
        f"after; the budget is {readable_duration(seconds)}."
    )
    losses = list(given_up(full, config))
    if not losses:
        return f"{begin} Nothing was given up."
    rest = f"{config.steps} steps at {readable_duration(step)}"
    few = f" Fewer than {LEAST_STEPS} steps: expect a weak model." if config.steps < LEAST_STEPS else ""
    return f"{begin} It has {rest}. Gave up: {'; '.join(losses)}.{few}"


def _on_validation(config: TrainConfig, around: Surroundings) -> str:
    if not around.held_out:
        return "No case is held out."
    cases = config.validation.max_cases or around.held_out
    which = f"{cases} of {around.held_out}" if cases < around.held_out else f"all {around.held_out}"
    return (
        f"Every {config.validation.every_steps} steps on {which} held-out cases, which take about "
        f"{readable_duration(around.case)} each; at the end all are predicted, in about {readable_duration(around.end)}."
    )
