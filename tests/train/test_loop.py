import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from volseg.errors import ConfigError, InputError, TrainingError
from volseg.train import loop
from volseg.train.checkpoint import load_checkpoint
from volseg.train.data import load_data
from volseg.train.distributed import Ranks
from volseg.train.interrupt import PausedError
from volseg.train.loop import Trainer
from volseg.train.records.log import read_log
from volseg.train.split import split_cases
from volseg.train.step import Stepper

ENTRY = Path(__file__).with_name("train_entry.py")
ROOT = Path(__file__).parents[2]
FAST = (
    *("steps=6", "validation.every_steps=3", "architecture.widths=[8, 8]", "patch_voxels=[12, 16, 12]"),
    *("tile.tile_voxels=[20, 24, 20]", "augment.where=threads"),
)


def quiet(progress):
    pass


@pytest.fixture
def trainer(phantom_config, tmp_path):
    """A trainer of the phantom in a folder of that name."""

    def make(name, *overrides, ranks=None):
        config = phantom_config(*FAST, *overrides)
        data = load_data(config, split_cases(config), tmp_path / "cache")
        (tmp_path / name).mkdir(exist_ok=True)
        return Trainer(config, data, tmp_path / name, device="cpu", ranks=ranks or Ranks())

    return make


def weights(trainer):
    return {name: value.clone() for name, value in trainer.average.items()}


def assert_same(first, second):
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name


def rows(folder):
    timed = ("seconds", "waited", "patches_per_second")
    return [{k: v for k, v in row.items() if k not in timed} for row in read_log(folder / "log.csv")]


def test_a_training_leaves_log_curves_and_checkpoints_and_tells_a_display(trainer, tmp_path):
    seen = []
    run = trainer("run", "steps=7")
    run.run(seen.append)
    assert [progress.step for progress in seen] == list(range(1, 8))
    assert [(p.epoch, p.epochs) for p in seen] == [(1, 3)] * 3 + [(2, 3)] * 3 + [(3, 3)]
    assert [p.is_epoch_end for p in seen] == [False, False, True, False, False, True, True]
    assert seen[1].dice is None
    last = seen[-1]
    assert last.dice_by_name.keys() == {"front", "back"}
    assert last.dice == pytest.approx(np.mean(list(last.dice_by_name.values())))
    assert last.best_dice >= last.dice
    assert 0 <= last.waited <= 1
    assert last.patches_per_second > 0
    assert last.seconds_left == 0
    assert last.seconds > 0
    (row,) = [row for row in read_log(tmp_path / "run" / "log.csv") if "loss" in row]
    assert row["step"] == 7
    assert row.keys() >= {
        "learning_rate",
        "seconds",
        "waited",
        "patches_per_second",
        "dice_front",
        "dice_back",
    }
    assert row["loss"] == pytest.approx(last.loss, rel=1e-5)
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        "log.csv",
        "curves.png",
        "last.pt",
        "best.pt",
    }
    best = max(row["dice_front"] + row["dice_back"] for row in rows(tmp_path / "run")) / 2
    assert load_checkpoint(tmp_path / "run" / "best.pt").best_dice == pytest.approx(best, rel=1e-5)


def interrupted(*args, **kwargs):
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("optimizer.schedule=plateau", "optimizer.plateau_patience=1", "optimizer.warmup_steps=1"),
        ("optimizer.name=sgd", "accumulate=2", "batch_size=1", "channels_last=true"),
        ("architecture.norm=batch", "optimizer.schedule=poly", "loss.heads.schedule=shift"),
        (
            *("architecture.dimensions=2", "patch_voxels=[12, 16, 1]", "tile.tile_voxels=[20, 24, 1]"),
            *("tile.slices_around=1", "channels_last=true", "augment.mirror_axes=[0]"),
        ),
    ],
    ids=["plain", "plateau", "accumulate", "batch-norm", "neighbour-slices"],
)
def test_wherever_it_is_stopped_it_ends_as_if_it_had_not_been(trainer, tmp_path, monkeypatch, overrides):
    """Killed in the middle of a step, of a validation, or asked to stop: the same bits and the same log."""
    monkeypatch.setattr(loop, "_LOG_STEPS", 2)
    whole = trainer("whole", *overrides)
    whole.run(quiet)
    often = (*overrides, "checkpoint_minutes=1e-9")
    first = trainer("parts", *often)

    def die(progress):
        if progress.step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        first.run(die)
    second = trainer("parts", *often)
    second.resume()
    assert second.step == 2
    with monkeypatch.context() as patch:
        patch.setattr(loop, "validation_dice", interrupted)
        with pytest.raises(KeyboardInterrupt):
            second.run(quiet)
    third = trainer("parts", *often)
    third.resume()
    assert (third.step, third.recorded) == (3, 2)

    def ask(progress):
        if progress.step == 4:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(PausedError, match="saved at step 5; go on with --resume"):
        third.run(ask)
    last = trainer("parts", *often)
    last.resume()
    last.run(quiet)
    assert_same(weights(last), weights(whole))
    assert_same(last.module.state_dict(), whole.module.state_dict())
    assert vars(last.plateau) == vars(whole.plateau)
    assert (last.losses, last.last_dice, last.best_dice) == (whole.losses, whole.last_dice, whole.best_dice)
    assert rows(tmp_path / "parts") == rows(tmp_path / "whole")
    finished = trainer("parts", *often)
    finished.resume()
    finished.run(quiet)  # nothing is left to do
    assert_same(weights(finished), weights(whole))


def run_entry(folder, *arguments):
    command = [sys.executable, str(ENTRY), str(folder), *FAST, *arguments]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
@pytest.mark.parametrize("where", ["threads", "processes"])
def test_killed_with_sigkill_at_random_steps_it_ends_with_the_same_weights(tmp_path, where):
    """Also with worker processes, which must not outlive the training."""
    often = ("steps=12", "checkpoint_minutes=1e-9", f"augment.where={where}", "workers=2")
    run_entry(tmp_path / "whole", *often).communicate(timeout=120)
    stops = sorted(np.random.default_rng().choice(np.arange(1, 11), 2, replace=False).tolist())
    for count, stop in enumerate(stops):
        process = run_entry(tmp_path / "parts", *often, *(["--resume"] if count else []))
        assert any(line.strip() == f"step {stop}" for line in process.stdout), process.stderr.read()
        process.kill()
        process.communicate(timeout=60)  # ends when nobody holds the pipes any more: no worker either
    last = run_entry(tmp_path / "parts", *often, "--resume")
    _, error = last.communicate(timeout=120)
    assert last.returncode == 0, error
    ends = [load_file(tmp_path / name / "weights_0.safetensors") for name in ("whole", "parts")]
    assert_same(*ends)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("where", ["threads", "processes"])
def test_a_signal_to_the_whole_process_group_saves_and_leaves_with_0(tmp_path, number, where):
    """As Slurm and a terminal send it: the workers get it too."""
    arguments = ("steps=4000", "validation.every_steps=4000", f"augment.where={where}", "workers=2")
    command = [sys.executable, str(ENTRY), str(tmp_path / "run"), *FAST, *arguments]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert any(line.strip() == "step 5" for line in process.stdout), process.stderr.read()
    os.killpg(process.pid, number)
    out, error = process.communicate(timeout=60)
    assert process.returncode == 0, error
    assert error == ""
    (step,) = re.findall(r"^saved at step (\d+); go on with --resume$", out, re.MULTILINE)
    assert load_checkpoint(tmp_path / "run" / "last.pt").step == int(step)


def gradients(run):
    return [parameter.grad.clone() for parameter in run.module.parameters()]


def test_accumulated_batches_are_one_large_batch(trainer):
    """The mean of the gradients of two halves is the gradient of the whole, for losses that are means over patches."""
    terms = "loss.terms=[{name: cross_entropy}]"
    halves = trainer("halves", terms, "accumulate=2", "batch_size=1")
    whole = trainer("whole", terms, "accumulate=1", "batch_size=2")
    losses = [run._stepper.gradients(list(first_batches(run)), progress=0) for run in (halves, whole)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    for first, second in zip(gradients(halves), gradients(whole), strict=True):
        assert torch.allclose(first, second, atol=1e-6)


def test_two_ranks_take_the_step_of_both_their_batches(trainer):
    """What two processes compute together, computed by one: its all-reduce is given the other's gradients."""
    other = trainer("other", "steps=1", ranks=Ranks(1, 1))
    together = trainer("together", "steps=1")
    batches = [next(first_batches(run)) for run in (together, other)]
    assert not torch.equal(batches[0].images, batches[1].images)
    parts = []
    for run, batch in zip((together, other), batches, strict=True):
        run._stepper.gradients([batch], progress=0)
        parts.append(gradients(run))
    mean = [(a + b) / 2 for a, b in zip(*parts, strict=True)]
    both = trainer("both", "steps=1")
    both._stepper.gradients(batches, progress=0)
    for parameter, expected in zip(both.module.parameters(), mean, strict=True):
        assert torch.allclose(parameter.grad, expected, atol=1e-6)


def first_batches(run):
    source = loop.BatchSource(
        run.config, run.data.training, len(run.data.label_values) + 1, device=run.device, rank=run.ranks.rank
    )
    return source.batches(1, 1)


def test_gradients_are_clipped_and_the_average_follows(trainer):
    plain = (
        "optimizer.name=sgd",
        "optimizer.momentum=0.5",
        "optimizer.weight_decay=0",
        "optimizer.ema_decay=0.1",
    )
    run = trainer("run", *plain, "optimizer.clip_norm=1e-2")
    before = {name: value.clone() for name, value in run.module.state_dict().items()}
    run._stepper.gradients(list(first_batches(run)), progress=0)
    norm = torch.cat([gradient.flatten() for gradient in gradients(run)]).norm()
    assert norm > 1e-2
    assert run._stepper.apply(1, 1.0)
    after = run.module.state_dict()
    moved = torch.cat([(after[name] - value).flatten() for name, value in before.items()]).norm()
    assert float(moved) == pytest.approx(1.5e-2, rel=1e-2)  # Nesterov: gradient + momentum * gradient
    for name, value in before.items():
        assert torch.allclose(run.average[name], value * 0.1 + after[name] * 0.9, atol=1e-7)


def test_gradient_checkpointing_gives_the_same_gradients(trainer):
    plain, frugal = trainer("plain"), trainer("frugal", "gradient_checkpointing=true")
    batch = next(first_batches(plain))
    losses = [run._stepper.gradients([batch], progress=0) for run in (plain, frugal)]
    assert losses[0] == losses[1]
    for first, second in zip(plain.module.parameters(), frugal.module.parameters(), strict=True):
        assert torch.equal(first.grad, second.grad)


def test_gradient_checkpointing_needs_a_network_that_can(trainer):
    with pytest.raises(ConfigError, match="batch norm"):
        trainer("run", "gradient_checkpointing=true", "architecture.norm=batch")


def test_a_compiled_network_is_saved_under_plain_names(trainer, monkeypatch, tmp_path):
    calls = []

    def compile_network(module):
        return lambda batch: calls.append(1) or module(batch)

    monkeypatch.setattr(torch, "compile", compile_network)
    run = trainer("run", "compile=true", "steps=1")
    run.run(quiet)
    assert len(calls) == 1
    state = load_checkpoint(tmp_path / "run" / "last.pt").state
    assert state["module"].keys() == state["average"].keys() == trainer("plain").module.state_dict().keys()


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_the_real_compiler_trains_and_resumes(trainer, tmp_path):
    whole, first = (
        trainer("whole", "compile=true"),
        trainer("parts", "compile=true", "checkpoint_minutes=1e-9"),
    )
    whole.run(quiet)
    plain = trainer("plain")
    plain.run(quiet)
    assert whole.losses == pytest.approx(plain.losses, rel=1e-2)

    def die(progress):
        if progress.step == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        first.run(die)
    last = trainer("parts", "compile=true")
    last.resume()
    last.run(quiet)
    assert_same(weights(last), weights(whole))


@pytest.mark.parametrize("poisoned", ["nan", "inf"])
def test_a_loss_that_is_no_number_stops_with_the_batch_saved(trainer, tmp_path, poisoned):
    run = trainer("run", "checkpoint_minutes=1e-9", "accumulate=2")

    def poison(progress):
        if progress.step == 2:
            with torch.no_grad():
                run.module.heads["1"].bias.fill_(float(poisoned))

    with pytest.raises(
        TrainingError, match=r"the loss became nan at step 3.*nan_batch\.safetensors.*learning_rate"
    ):
        run.run(poison)
    assert load_checkpoint(tmp_path / "run" / "last.pt").step == 2
    path = tmp_path / "run" / "nan_batch.safetensors"
    kept = load_file(path)
    assert kept["images"].shape == (4, 1, 12, 16, 12)
    assert kept["labels"].shape == (4, 12, 16, 12)
    with safe_open(path, "pt") as opened:
        assert opened.metadata() == {"step": "3", "rank": "0", "patches": "2 2"}


def test_gradients_that_are_no_numbers_stop_too(trainer, tmp_path):
    run = trainer("run")
    run.module.heads["1"].weight.register_hook(lambda gradient: gradient * float("nan"))
    with pytest.raises(TrainingError, match="the gradients became infinite or no numbers at step 1"):
        run.run(quiet)
    assert (tmp_path / "run" / "nan_batch.safetensors").is_file()
    assert not any(value.isnan().any() for value in run.module.state_dict().values())


def test_fp16_skips_single_infinite_gradients_and_gives_up_where_they_never_end(trainer):
    run = trainer("run")
    stepper = Stepper(run.module, run.config, run.data.code, precision="fp16", ranks=Ranks())
    batch = next(first_batches(run))
    before = {name: value.clone() for name, value in run.module.state_dict().items()}
    scale = stepper.scaler.get_scale()
    handle = run.module.heads["1"].weight.register_hook(lambda gradient: gradient * float("inf"))
    stepper.gradients([batch], progress=0)
    assert stepper.apply(1, 1e-3)
    assert_same(run.module.state_dict(), before)
    assert stepper.scaler.get_scale() == scale / 2
    again = Stepper(run.module, run.config, run.data.code, precision="fp16", ranks=Ranks())
    again.load(stepper.state())
    assert again.scaler.get_scale() == scale / 2
    for step in range(2, 40):
        stepper.gradients([batch], progress=0)
        if not stepper.apply(step, 1e-3):
            break
    else:
        pytest.fail("the scale falls for ever without a word")
    handle.remove()


def test_fp16_and_fp32_take_nearly_the_same_step(trainer):
    moved = []
    for precision in ("fp32", "fp16", "bf16"):
        run = trainer(precision)
        stepper = Stepper(run.module, run.config, run.data.code, precision=precision, ranks=Ranks())
        loss = stepper.gradients([next(first_batches(run))], progress=0)
        assert stepper.apply(1, 1e-3)
        moved.append((loss, torch.cat([p.detach().flatten() for p in run.module.parameters()])))
    for loss, values in moved[1:]:
        assert loss == pytest.approx(moved[0][0], rel=2e-2)
        assert torch.allclose(values, moved[0][1], atol=2.5e-3)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("seed=1", "optimizer.learning_rate=1"), "another optimizer and seed"),
        (("tile.slices_around=1",), r"another tile\.slices_around"),
        (("steps=7",), "another steps"),
    ],
)
def test_a_resume_needs_the_settings_that_make_the_weights(trainer, overrides, message):
    trainer("run").run(quiet)
    with pytest.raises(InputError, match=message):
        trainer("run", *overrides).resume()


def test_a_resume_may_change_what_makes_no_weights_but_not_the_number_of_processes(trainer):
    trainer("run").run(quiet)
    free = ("workers=2", "log.tensorboard=false", "card.name=other", "validation.every_steps=2")
    trainer("run", *free, "gradient_checkpointing=true").resume()
    with pytest.raises(InputError, match=r"was written by 1 processes, now there are 2"):
        trainer("run", ranks=Ranks(0, 2)).resume()


def test_with_a_plateau_the_validation_makes_the_weights(trainer):
    plateau = "optimizer.schedule=plateau"
    trainer("run", plateau).run(quiet)
    with pytest.raises(InputError, match="another validation"):
        trainer("run", plateau, "validation.every_steps=2").resume()


def test_a_plateau_lowers_the_rate(trainer, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "_LOG_STEPS", 1)
    monkeypatch.setattr(loop, "validation_dice", lambda *args, **kwargs: [0.5, 0.5])
    run = trainer("run", "optimizer.schedule=plateau", "optimizer.plateau_patience=1", "optimizer.warmup_steps=0",
                  "validation.every_steps=2", "optimizer.plateau_factor=0.1")  # fmt: skip
    run.run(quiet)
    rates = [row["learning_rate"] for row in rows(tmp_path / "run")]
    assert rates == pytest.approx([5e-3] * 4 + [5e-4] * 2)


def test_training_on_every_case_validates_on_none(trainer, tmp_path):
    seen = []
    run = trainer("run", "split.fold=all")
    run.run(seen.append)
    assert seen[-1].dice is None
    assert not (tmp_path / "run" / "best.pt").exists()
    assert replace(seen[-1], step=1).steps == 6


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("architecture.dimensions=2", "patch_voxels=[12, 16, 1]", "tile.tile_voxels=[20, 24, 1]"),
    ],
    ids=["3d", "2d"],
)
def test_the_order_in_memory_changes_no_gradient(trainer, overrides):
    plain, last = trainer("plain", *overrides), trainer("last", "channels_last=true", *overrides)
    axes = plain.config.architecture.dimensions
    layout = torch.channels_last if axes == 2 else torch.channels_last_3d
    wide = [p for p in last.module.parameters() if p.ndim == axes + 2 and p.shape[1] > 1]
    assert wide
    assert all(p.is_contiguous(memory_format=layout) for p in wide)
    batch = next(first_batches(plain))
    losses = [run._stepper.gradients([batch], progress=0) for run in (plain, last)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    for first, second in zip(gradients(plain), gradients(last), strict=True):
        assert torch.allclose(first, second, atol=1e-5)
