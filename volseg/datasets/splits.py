"""Which cases train and which validate: a split that depends on the case ids, their patients and the seed alone."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

from volseg.datasets import Case
from volseg.errors import ConfigError, InputError, few
from volseg.io.atomic import replacing

Split = tuple[tuple[str, ...], tuple[str, ...]]
"""The ids to train on and the ids to validate on, each sorted."""


def split_folds(
    cases: Iterable[str | Case],
    folds: int = 5,
    *,
    fold: int = 0,
    seed: int = 0,
    patients: Mapping[str, str] | None = None,
) -> Split:
    """Deal the patients into folds of (nearly) equal numbers of cases and hold one out.

    Patients with more cases are dealt first, each to the fold with the fewest; the order between them is that of
    SHA-256("seed:id") of their first case, so it is the same on every machine, for every order of cases and with every
    version of every library.

    Args:
        cases: cases or their ids, in any order.
        folds: number of folds, at least 2 and at most the number of patients.
        fold: the fold that validates, 0..folds-1.
        seed: another seed deals another hand.
        patients: the patient of an id; one that is not listed, or whose patient is "", is a patient of its own. By
            default those of the cases.

    Returns:
        (ids to train on, ids to validate on), each sorted.

    Raises:
        ConfigError: a repeated id, or folds and fold out of range.
    """
    if fold < 0 or fold >= max(folds, 1):
        raise ConfigError(f"fold = {fold}; expected 0 to {folds - 1}, as there are {folds} folds.")
    by_id = _patients(cases, patients)
    validation = set(_deal(by_id, folds, seed)[fold])
    return tuple(case for case in sorted(by_id) if case not in validation), tuple(sorted(validation))


def write_splits(path: Path, cases: Iterable[Case], folds: int = 5, seed: int = 0) -> None:
    """Write all folds as split_folds deals them, as JSON to be read and edited by people.

    Raises:
        ConfigError: as split_folds.
        OutputError: the file system refuses.
    """
    by_id = _patients(cases, None)
    dealt = _deal(by_id, folds, seed)
    text = {
        "seed": seed,
        "cases": len(by_id),
        "patients": len(set(_groups(by_id))),
        "folds": [{"fold": number, "validation": sorted(ids)} for number, ids in enumerate(dealt)],
    }
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(text, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_splits(path: Path, cases: Iterable[str | Case]) -> tuple[Split, ...]:
    """Read the folds that write_splits wrote, perhaps edited.

    Args:
        path: the file; only "folds" with the "validation" ids of each is looked at.
        cases: cases or their ids: each must validate in exactly one fold. Where cases are given, those of one patient
            must validate in the same fold.

    Returns:
        (ids to train on, ids to validate on) of each fold.

    Raises:
        InputError: no such file, no such list, or a case is missing, unknown, or in several folds.
        ConfigError: a repeated id among the cases.
    """
    by_id = _patients(cases, None)
    folds = _read_folds(path)
    listed = [case for ids in folds for case in ids]
    problems = {
        "not in any fold": sorted(by_id.keys() - set(listed)),
        "not in the collection": sorted(set(listed) - by_id.keys()),
        "in several places": sorted(case for case, count in Counter(listed).items() if count > 1),
        "of patients who are in several folds": sorted(_leaking(folds, by_id)),
    }
    told = [f"{len(ids)} cases are {what} ({few(ids, 5)})" for what, ids in problems.items() if ids]
    if told:
        raise InputError(
            f"{path}: {'; '.join(told)}. Each case must validate in one fold, with the others of its patient. Correct the "
            "file, or delete it to have the cases dealt again."
        )
    return tuple((tuple(sorted(by_id.keys() - set(ids))), tuple(sorted(ids))) for ids in folds)


def _patients(cases: Iterable[str | Case], patients: Mapping[str, str] | None) -> dict[str, str]:
    """The patient of each id; "" where it is one of its own."""
    found: dict[str, str] = {}
    for case in cases:
        name, patient = (case, "") if isinstance(case, str) else (case.id, case.patient)
        if name in found:
            raise ConfigError(f"cannot split into folds: the case id '{name}' occurs twice.")
        found[name] = patient if patients is None else patients.get(name, "")
    return found


def _groups(by_id: Mapping[str, str]) -> list[tuple[str, ...]]:
    """The ids of each patient, sorted."""
    groups: dict[tuple[str, str], list[str]] = {}
    for case in sorted(by_id):
        patient = by_id[case]
        groups.setdefault(("patient", patient) if patient else ("case", case), []).append(case)
    return [tuple(group) for group in groups.values()]


def _deal(by_id: Mapping[str, str], folds: int, seed: int) -> list[list[str]]:
    groups = _groups(by_id)
    if not 2 <= folds <= len(groups):
        who = "cases" if len(groups) == len(by_id) else "patients"
        raise ConfigError(f"folds = {folds}; expected 2 to {len(groups)}, the number of {who}.")
    groups.sort(key=lambda group: (-len(group), sha256(f"{seed}:{group[0]}".encode()).digest()))
    dealt: list[list[str]] = [[] for _ in range(folds)]
    for group in groups:
        min(dealt, key=len).extend(group)
    return dealt


def _leaking(folds: list[list[str]], by_id: Mapping[str, str]) -> set[str]:
    """The cases of patients who validate in several folds."""
    homes: dict[str, set[int]] = {}
    for number, ids in enumerate(folds):
        for case in ids:
            homes.setdefault(by_id.get(case, ""), set()).add(number)
    return {case for case, patient in by_id.items() if patient and len(homes.get(patient, ())) > 1}


def _read_folds(path: Path) -> list[list[str]]:
    expected = 'expected {"folds": [{"validation": ["CASE", ...]}, ...]} with two folds or more'
    try:
        text: Any = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}).") from error
    except ValueError as error:
        raise InputError(f"{path}: is no valid JSON ({error}); {expected}.") from error
    try:
        folds = [list(map(str, fold["validation"])) for fold in cast(Any, text)["folds"]]
    except (KeyError, TypeError):
        folds = []
    if len(folds) < 2 or not all(folds):
        raise InputError(f"{path}: {expected}, none of them empty.")
    return folds
