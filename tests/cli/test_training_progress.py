"""How a training shows how far it is."""

import sys

import pytest

from volseg.cli.training_progress import show_progress
from volseg.train.records.record import Progress


def progress(step, *, is_epoch_end):
    return Progress(
        step=step, steps=4, epoch=(step + 1) // 2, epochs=2, is_epoch_end=is_epoch_end, loss=0.5, learning_rate=1e-3,
        dice=0.25 if step > 1 else None, dice_by_name={}, best_dice=None, patches_per_second=3.0, waited=0.1,
        seconds=2.0, seconds_left=3725.0,
    )  # fmt: skip


def shown(capsys, *, silent=False):
    with show_progress(4, silent=silent) as report:
        for step in (1, 2, 3, 4):
            report(progress(step, is_epoch_end=step % 2 == 0))
    return capsys.readouterr().out


def test_a_file_gets_one_line_per_epoch(capsys):
    lines = shown(capsys).splitlines()
    words = "loss 0.5000   validation Dice 0.2500   3.0 patches/s   waiting for data 10%   1:02:05 left"
    assert lines == [f"epoch 1/2   step 2/4   {words}", f"epoch 2/2   step 4/4   {words}"]


def test_a_terminal_gets_a_bar_that_moves(capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    for name, value in (("TERM", "xterm"), ("COLUMNS", "160")):
        monkeypatch.setenv(name, value)
    out = shown(capsys)
    assert "4/4" in out
    assert "validation Dice 0.2500" in out
    assert "epoch" not in out
    assert "\x1b[" in out


@pytest.mark.parametrize("terminal", [True, False])
def test_the_other_processes_say_nothing(capsys, monkeypatch, terminal):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    assert shown(capsys, silent=True) == ""
