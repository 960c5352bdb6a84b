import json
from collections import Counter
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from volseg.datasets import Case
from volseg.datasets.splits import read_splits, split_folds, write_splits
from volseg.errors import ConfigError, InputError

IDS = [f"case_{number:03d}" for number in range(23)]


def case(name: str, patient: str = "") -> Case:
    return Case(name, (Path(f"{name}.nii"),), patient=patient)


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


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.text(min_size=1), unique=True, min_size=5),
    st.integers(2, 5),
    st.integers(0, 99),
    st.booleans(),
)
def test_cases_of_their_own_are_split_as_ever(ids: list[str], folds: int, seed: int, named: bool) -> None:
    """The first rule: every folds-th of the ids in the order of SHA-256("seed:id"); scores on record depend on it."""
    by_hash = sorted(ids, key=lambda name: sha256(f"{seed}:{name}".encode()).digest())
    patients = {name: f"patient of {name}" for name in ids} if named else None
    for fold in range(folds):
        expected = tuple(sorted(by_hash[fold::folds]))
        assert split_folds(ids, folds, fold=fold, seed=seed, patients=patients)[1] == expected


def test_the_split_never_changes() -> None:
    assert split_folds(["a", "b", "c", "d", "e", "f"], 3, fold=1, seed=0)[1] == ("b", "d")
    assert split_folds(iter("fedcba"), 3, fold=1, seed=0)[1] == ("b", "d")
    grouped = [case(name, patient) for name, patient in zip("abcdef", "xxyyzz", strict=True)]
    assert [split_folds(grouped, 3, fold=fold)[1] for fold in range(3)] == [
        ("a", "b"),
        ("c", "d"),
        ("e", "f"),
    ]


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 9), min_size=12, max_size=40), st.integers(2, 5), st.integers(0, 99))
def test_patients_stay_together_and_folds_are_balanced(owners: list[int], folds: int, seed: int) -> None:
    cases = [case(f"{n:02d}", f"p{owner}") for n, owner in enumerate(owners)]
    sizes = Counter(owners)
    if len(sizes) < folds:
        with pytest.raises(ConfigError, match=f"expected 2 to {len(sizes)}, the number of (patients|cases)"):
            split_folds(cases, folds, seed=seed)
        return
    validations = [split_folds(cases, folds, fold=fold, seed=seed)[1] for fold in range(folds)]
    homes = [{owners[int(name)] for name in validation} for validation in validations]
    assert sum(map(len, homes)) == len(sizes)
    lengths = [len(validation) for validation in validations]
    assert min(lengths) > 0
    assert max(lengths) - min(lengths) <= max(sizes.values())
    assert split_folds(cases[::-1], folds, seed=seed) == split_folds(cases, folds, seed=seed)


def test_a_mapping_of_patients_wins_over_the_cases() -> None:
    cases = [case(name, "one") for name in "abcd"]
    assert len(split_folds(cases, 2, patients={"a": "p", "b": "p"})[1]) == 2
    with pytest.raises(ConfigError, match="expected 2 to 1, the number of patients"):
        split_folds(cases, 2)


def test_another_seed_deals_another_hand() -> None:
    assert len({split_folds(IDS, seed=seed)[1] for seed in range(8)}) > 6


def test_impossible_splits_are_refused() -> None:
    for folds, fold in ((1, 0), (24, 0), (5, 5), (5, -1), (0, 0)):
        with pytest.raises(ConfigError, match="expected"):
            split_folds(IDS, folds, fold=fold)
    with pytest.raises(ConfigError, match="twice"):
        split_folds(["a", "b", "a"], 2)


def test_splits_are_read_as_they_were_written(tmp_path: Path) -> None:
    cases = [case(f"Fall {n} ä", f"p{n // 2}") for n in range(10)]
    path = tmp_path / "splits.json"
    write_splits(path, cases, 5, 3)
    assert read_splits(path, cases) == tuple(split_folds(cases, 5, fold=fold, seed=3) for fold in range(5))
    assert read_splits(path, [each.id for each in cases]) == read_splits(path, cases)
    assert "Fall 0 ä" in path.read_text(encoding="utf-8")
    assert [path] == list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("folds", "message"),
    [
        ([["a", "b"], ["c"]], r"1 cases are not in any fold \(d\)"),
        ([["a", "b"], ["c", "d", "e"]], r"1 cases are not in the collection \(e\)"),
        ([["a", "b", "c"], ["c", "d"]], r"1 cases are in several places \(c\)"),
        ([["a", "b", "b"], ["c", "d"]], r"1 cases are in several places \(b\)"),
        ([["a", "c"], ["b", "d"]], r"2 cases are of patients who are in several folds \(a, b\)"),
        ([["a", "b", "c", "d"]], "two folds or more"),
        ([["a", "b", "c", "d"], []], "none of them empty"),
    ],
)
def test_wrong_splits_are_refused(tmp_path: Path, folds: list[list[str]], message: str) -> None:
    path = tmp_path / "splits.json"
    path.write_text(json.dumps({"folds": [{"validation": ids} for ids in folds]}))
    with pytest.raises(InputError, match=message):
        read_splits(path, [case("a", "p"), case("b", "p"), case("c"), case("d")])


@pytest.mark.parametrize("text", ["{", "[]", '{"folds": 3}', '{"folds": [["a"], ["b"]]}', '{"folds": [{}]}'])
def test_other_files_are_no_splits(tmp_path: Path, text: Any) -> None:
    path = tmp_path / "splits.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"splits\.json.*expected"):
        read_splits(path, ["a", "b"])
    with pytest.raises(InputError, match="cannot be read"):
        read_splits(tmp_path / "gone.json", ["a", "b"])
