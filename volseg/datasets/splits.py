"""Which cases train and which validate: a split that depends on the case ids and the seed, on nothing else."""

from collections.abc import Iterable
from hashlib import sha256

from volseg.errors import ConfigError


def split_folds(
    ids: Iterable[str], folds: int = 5, *, fold: int = 0, seed: int = 0
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Deal the cases into folds of (nearly) equal size and hold one out.

    The order of dealing is that of SHA-256("seed:id"), so it is the same on every machine, for every order of ids
    and with every version of every library.

    Args:
        ids: case ids, in any order.
        folds: number of folds, at least 2 and at most the number of cases.
        fold: the fold that validates, 0..folds-1.
        seed: another seed deals another hand.

    Returns:
        (ids to train on, ids to validate on), each sorted.

    Raises:
        ConfigError: a repeated id, or folds and fold out of range.
    """
    unique = sorted(set(ids_list := list(ids)))
    if len(unique) != len(ids_list):
        raise ConfigError("cannot split into folds: a case id occurs twice.")
    if not 2 <= folds <= len(unique):
        raise ConfigError(f"folds = {folds}; expected 2 to {len(unique)}, the number of cases.")
    if not 0 <= fold < folds:
        raise ConfigError(f"fold = {fold}; expected 0 to {folds - 1}, as there are {folds} folds.")
    dealt = sorted(unique, key=lambda case_id: sha256(f"{seed}:{case_id}".encode()).digest())
    validation = set(dealt[fold::folds])
    return tuple(case_id for case_id in unique if case_id not in validation), tuple(sorted(validation))
