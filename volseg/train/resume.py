"""Which settings a resumed training must share with the one it goes on with."""

import yaml

from volseg.config import check_config
from volseg.train.settings import TrainConfig

_FREE = {
    *("dataset", "card", "golden", "tile", "mirror_axes", "postprocess", "workers", "validation", "log"),
    *("cross_validation", "locate", "located_labels", "template", "fingerprint", "checkpoint_minutes"),
    *("gradient_checkpointing", "head"),
}
"""Settings that change no weight (the dataset may have moved)."""
_SEEN_BY_PLATEAU = {"tile", "mirror_axes", "validation"}
"""... unless the learning rate follows the validation."""


def changed_settings(written: str, config: TrainConfig) -> list[str]:
    """The names of settings that would give other weights than those a training began with.

    Args:
        written: the resolved configuration (YAML) in the checkpoint.
        config: the one to resume with.
    """
    old = check_config(yaml.safe_load(written), TrainConfig, source="the checkpoint's configuration")
    free = _FREE - _SEEN_BY_PLATEAU if config.optimizer.schedule == "plateau" else _FREE
    names = [name for name in TrainConfig.model_fields if name not in free]
    changed = [name for name in names if getattr(old, name) != getattr(config, name)]
    if old.tile.slices_around != config.tile.slices_around:
        changed.append("tile.slices_around")
    return changed
