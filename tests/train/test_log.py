from volseg.train.log import TrainLog, draw_curves, read_log


def test_rows_come_back_and_a_resumed_log_drops_what_came_after_its_checkpoint(tmp_path):
    log = TrainLog(tmp_path, ["liver"], resumed_at=0)
    log.add({"step": 50, "loss": 1.25, "learning_rate": 1e-3, "seconds": 9})
    log.add({"step": 75, "dice_liver": 0.5})
    log.add({"step": 100, "loss": 0.75, "learning_rate": 1e-3, "seconds": 18})
    again = TrainLog(tmp_path, ["liver"], resumed_at=80)
    assert again.seconds_before == 9
    again.add({"step": 100, "loss": 0.5})
    assert read_log(log.path) == [
        {"step": 50, "loss": 1.25, "learning_rate": 1e-3, "seconds": 9},
        {"step": 75, "dice_liver": 0.5},
        {"step": 100, "loss": 0.5},
    ]


def test_a_new_run_starts_an_empty_log(tmp_path):
    TrainLog(tmp_path, ["liver"], resumed_at=0).add({"step": 50, "loss": 1})
    assert read_log(TrainLog(tmp_path, ["liver"], resumed_at=0).path) == []


def test_curves_are_drawn_even_before_the_first_validation(tmp_path):
    log = TrainLog(tmp_path, ["liver"], resumed_at=0)
    log.add({"step": 50, "loss": 1})
    draw_curves(log.path, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
