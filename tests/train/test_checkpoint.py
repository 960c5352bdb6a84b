import errno
import pickle

import pytest
import torch

from volseg.errors import InputError, OutputError
from volseg.train.checkpoint import Checkpoint, load_checkpoint, save_checkpoint


def checkpoint(step=3):
    state = {"module": {"w": torch.arange(3.0)}, "average": {"w": torch.ones(3)}, "optimizer": {"state": {}}}
    plateau = {"best": 0.5, "stalled": 1, "drops": 2}
    dices = {"liver": 0.5}
    return Checkpoint(step, step - 1, state, plateau, 0.5, dices, [1.0, 0.9], 7.5, 2, "kind: train")


def test_round_trip(tmp_path):
    save_checkpoint(checkpoint(), tmp_path / "last.pt")
    loaded, written = vars(load_checkpoint(tmp_path / "last.pt")), vars(checkpoint())
    assert torch.equal(loaded.pop("state")["module"]["w"], torch.arange(3.0))
    written.pop("state")
    assert loaded == written


def test_a_crash_while_writing_leaves_the_previous_one(tmp_path, monkeypatch):
    save_checkpoint(checkpoint(1), tmp_path / "last.pt")

    def crash(state, stream):
        stream.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", crash)
    with pytest.raises(OutputError, match="no space left"):
        save_checkpoint(checkpoint(2), tmp_path / "last.pt")
    assert load_checkpoint(tmp_path / "last.pt").step == 1
    assert [path.name for path in tmp_path.iterdir()] == ["last.pt"]


def test_missing_damaged_and_foreign_files_are_refused(tmp_path):
    with pytest.raises(InputError, match="no such checkpoint"):
        load_checkpoint(tmp_path / "last.pt")
    (tmp_path / "last.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(InputError, match="no readable checkpoint"):
        load_checkpoint(tmp_path / "last.pt")
    torch.save({"format": 1}, tmp_path / "last.pt")
    with pytest.raises(InputError, match="format 2"):
        load_checkpoint(tmp_path / "last.pt")


def test_a_checkpoint_runs_no_code(tmp_path):
    class Hostile:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    (tmp_path / "last.pt").write_bytes(pickle.dumps(Hostile()))
    with pytest.raises(InputError, match="no readable checkpoint"):
        load_checkpoint(tmp_path / "last.pt")
    assert not (tmp_path / "ran").exists()
