import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from volseg.datasets.splits import split_folds
from volseg.errors import ConfigError

IDS = [f"case_{number:03d}" for number in range(23)]


@settings(deadline=None, max_examples=40)
@given(st.permutations(IDS), st.integers(2, 23), st.integers(0, 10**6))
def test_every_case_validates_exactly_once(ids: list[str], folds: int, seed: int) -> None:
    splits = [split_folds(ids, folds, fold=fold, seed=seed) for fold in range(folds)]
    assert sorted(case for _, validation in splits for case in validation) == IDS
    for train, validation in splits:
        assert sorted(train + validation) == IDS
        assert list(train) == sorted(train)
        assert list(validation) == sorted(validation)
        assert abs(len(validation) - len(IDS) / folds) < 1


def test_the_split_never_changes() -> None:
    assert split_folds(["a", "b", "c", "d", "e", "f"], 3, fold=1, seed=0)[1] == ("b", "d")
    assert split_folds(iter("fedcba"), 3, fold=1, seed=0)[1] == ("b", "d")


def test_another_seed_deals_another_hand() -> None:
    assert len({split_folds(IDS, seed=seed)[1] for seed in range(8)}) > 6


def test_impossible_splits_are_refused() -> None:
    for folds, fold in ((1, 0), (24, 0), (5, 5), (5, -1)):
        with pytest.raises(ConfigError, match="expected"):
            split_folds(IDS, folds, fold=fold)
    with pytest.raises(ConfigError, match="twice"):
        split_folds(["a", "b", "a"], 2)
