"""A training of the phantom as its own process, without the package at the end: for tests that start and kill some.

    python train_entry.py FOLDER [--resume] [NAME=VALUE]...

Alone, or under torchrun or srun. Every rank leaves its final averaged weights as weights_<rank>.safetensors.
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from volseg.config import load_config
from volseg.errors import VolsegError
from volseg.train.data import load_data
from volseg.train.distributed import open_ranks
from volseg.train.interrupt import PausedError
from volseg.train.loop import Trainer
from volseg.train.settings import TrainConfig
from volseg.train.split import split_cases

ROOT = Path(__file__).parents[2]
DATA = f"dataset.root={ROOT / 'data_samples' / 'msd_phantom'}"


def say(line, stream=sys.stdout):
    stream.write(f"{line}\n")
    stream.flush()


def main(folder: Path, arguments: list[str]) -> int:
    torch.set_num_threads(1)
    overrides = [argument for argument in arguments if argument != "--resume"]
    config = load_config(ROOT / "configs/smoke/train_phantom.yaml", TrainConfig, [DATA, *overrides])
    try:
        with open_ranks("cpu") as ranks:
            with ranks.first_before_others("cache"):
                folder.mkdir(exist_ok=True, parents=True)
                data = load_data(config, split_cases(config), folder / "cache")
            trainer = Trainer(config, data, folder, device="cpu", ranks=ranks)
            if "--resume" in arguments:
                trainer.resume()
            trainer.run(lambda progress: say(f"step {progress.step}"))
            save_file(trainer.average, folder / f"weights_{ranks.rank}.safetensors")
    except PausedError as paused:
        say(str(paused))
    except VolsegError as error:
        say(f"volseg: {error}", sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
