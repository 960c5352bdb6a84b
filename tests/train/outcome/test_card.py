import re

import pytest

from volseg.evaluate import Score, summarise, summarise_cases
from volseg.package import ModelInfo, ScoreInfo
from volseg.package.fingerprint import ChannelPrint, Fingerprint, LabelPrint, Spread
from volseg.train.outcome.card import card_text


def spread(low: float, high: float) -> Spread:
    return Spread(least=low / 2, low=low, median=(low + high) / 2, high=high, most=high * 2)


def fingerprint() -> Fingerprint:
    """What the card tells of a fingerprint, and no more."""
    channel = ChannelPrint.model_construct(name="CT", mean=101.2, deviation=41.0, low=-20.0, high=190.0)
    liver = LabelPrint.model_construct(
        name="liver", present=104, volume_ml=spread(900, 2100), components=spread(1, 1)
    )
    lesion = LabelPrint.model_construct(
        name="lesion", present=96, volume_ml=spread(0.5, 90), components=spread(1, 9)
    )
    return Fingerprint.model_construct(
        cases=104,
        patients=98,
        spacing_mm=(spread(0.68, 0.85), spread(0.68, 0.85), spread(0.8, 5)),
        size_mm=(spread(350, 440), spread(350, 440), spread(180, 700)),
        channels=[channel],
        labels=[liver, lesion],
    )


def info(**fields) -> ModelInfo:
    training = {
        "dataset": "LiTS",
        "dataset_licence": "CC BY-NC-SA 4.0",
        "case_count": 104,
        "case_ids_sha256": "0" * 64,
        "split": "104 of 131 labelled cases; fold 0 of 5 held out",
        "steps": 5000,
        "epochs": 96.2,
    }
    return ModelInfo.model_validate(
        {
            "name": "liver",
            "version": "1.0.0",
            "title": "Liver and lesions",
            "description": "Finds the liver.",
            "architecture": {"name": "unetpp"},
            "channels": [{"name": "CT", "modality": "CT"}],
            "preprocess": [],
            "tile": {"tile_voxels": (96, 96, 96)},
            "labels": [
                {"value": 1, "name": "liver", "colour": (1, 2, 3)},
                {"value": 2, "name": "lesion", "colour": (4, 5, 6)},
            ],
            "training": training,
            "intended_use": "research",
            "limits": "adults",
            "data_licence": "CC BY-NC-SA 4.0",
            "volseg_version": "0.1.0",
            "git_commit": "abc",
            "scores": [
                ScoreInfo(label="liver", cases="held-out fold 0 of 5", case_count=3, means={"dice": 0.9})
            ],
            **fields,
        }
    )


def score(case: str, label: int, name: str, dice: float, lesions: tuple[int, int, int, int]) -> Score:
    found = {"reference_lesions": lesions[0], "found_lesions": lesions[1]}
    marked = {"predicted_lesions": lesions[2], "right_lesions": lesions[3]}
    overlap = {
        "dice": dice,
        "iou": dice / (2 - dice),
        "surface_dice": dice,
        "boundary_f1": dice,
        "lesion_f1": 0.5,
    }
    size = {"hausdorff95_mm": 4.0, "volume_error_ml": -1.0, "predicted_ml": 9.0, "tolerance_mm": 1.0}
    return Score(
        case=case,
        label=label,
        name=name,
        reference_ml=10.0 if lesions[0] else 0.0,
        pixel_accuracy=0.99,
        **overlap,
        **size,
        **found,
        **marked,
    )


SCORES = [
    *(score(case, 1, "liver", dice, (1, 1, 1, 1)) for case, dice in (("a", 0.95), ("b", 0.97), ("c", 0.93))),
    *(score(case, 2, "lesion", dice, counts) for case, dice, counts in (
        ("a", 0.7, (4, 3, 5, 4)), ("b", 0.4, (6, 2, 2, 2)), ("c", 1.0, (0, 0, 0, 0)),
    )),
]  # fmt: skip


def test_scores_have_their_interval_and_failures_are_counted():
    card = card_text(info(), summarise(SCORES), whole=summarise_cases(SCORES))
    table = card[: card.index("separate lesions")].splitlines()
    rows = {row.split(" | ")[0].strip("| "): row for row in table if row.startswith("| ")}
    liver = summarise(SCORES)[0]
    low, high = liver.interval["dice"]
    assert f"| 0.9500 ± 0.0200 [{low:.4f}, {high:.4f}] |" in rows["liver"]
    assert rows["liver"].endswith("| 0 of 3 |")
    assert rows["lesion"].endswith("| 1 of 3 |")
    assert re.search(r"mean of labels \| 0\.8250 \|", card)
    assert "Of the 3 cases, 1 have no lesion." in card
    assert "5 of 10: 0.50 [0.33, 0.75] | 6 of 7: 0.86 [0.80, 1.00]" in card
    assert "liver | 3 of 3" not in card, "one piece a case is no list of lesions"
    assert "Mean IoU of the labels of a case" in card
    assert "held-out fold 0 of 5" in card
    assert "not a medical device" in card
    for absent in ("## Postprocessing", "## Scans of the training set", "Regions"):
        assert absent not in card


def test_regions_postprocessing_and_the_training_set_are_told():
    regions = [
        {"name": "whole liver", "values": [1, 2], "paint": 1},
        {"name": "tumour", "values": [2], "paint": 2},
    ]
    steps = [{"name": "keep_largest", "labels": [1], "united": False}]
    model = info(regions=regions, postprocess=steps)
    training = model.training.model_copy(update={"fingerprint": fingerprint()})
    card = card_text(
        model.model_copy(update={"training": training}),
        summarise([*SCORES, *(score(case, 0, "whole liver", 0.9, (1, 1, 1, 1)) for case in "abc")]),
        postprocess_notes=("keep_largest of liver: yes; with it ...",),
    )
    assert "- Regions, each found on its own: whole liver (liver, lesion); tumour (lesion)" in card
    assert re.search(r"mean of labels \| 0\.8250 \|", card), "regions hold the labels again and do not count"
    assert card.index("| lesion |") < card.index("| whole liver |")
    assert "1. keep_largest, labels liver\n" in card
    assert "- keep_largest of liver: yes" in card
    assert "104 scans of 98 patients" in card
    assert "right-left 0.68 to 0.85, front-back 0.68 to 0.85, up-down 0.8 to 5" in card
    assert "- CT inside the labels: mean 101.2 ± 41, 0.5 to 99.5 % of the voxels from -20 to 190" in card
    assert "- lesion: in 96 of 104 cases, 0.5 to 90 ml, pieces in a case: 1 to 9" in card
    assert "- liver: in 104 of 104 cases, 900 to 2100 ml, pieces in a case: 1\n" in card
    assert "\n\n\n" not in card
    assert card.endswith("\n")


@pytest.mark.parametrize("notes", [(), ("no postprocessing: there was no held-out case",)])
def test_a_model_without_scores_says_so(notes):
    card = card_text(info(scores=[]), [], postprocess_notes=notes)
    assert "no case was held out" in card
    assert ("None.\n\nHow that was chosen" in card) == bool(notes)
