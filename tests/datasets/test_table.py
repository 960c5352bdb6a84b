import json
from pathlib import Path
from typing import Any

import pytest

from tests.datasets.folders import touch
from volseg.datasets.table import Table
from volseg.errors import InputError
from volseg.labels import LabelRegion

WORDS = {
    "labels": {"1": "Oedema", "Tumour": 2},
    "modality": "mr",
    "regions": [{"name": "Whole", "values": [1, 2], "paint": 1}],
    "remap": {"4": 2},
    "licence": "CC0",
    "title": "Our scans",
}
FILES = [
    "scans/1 flair.nii.gz",
    "scans/1 t1.nii.gz",
    "labels/1.nii.gz",
    "scans/ä.nii",
    "scans/b.nii",
    "labels/ä.nii",
]


def write_table(
    root: Path, text: str, words: dict[str, Any] | None = None, *, encoding: str = "utf-8"
) -> Path:
    touch(root, FILES)
    path = root / "our cases.csv"
    path.write_bytes(text.encode(encoding))
    if words is not None:
        path.with_suffix(".json").write_text(json.dumps(words))
    return path


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_channels_come_in_the_order_of_the_columns(tmp_path: Path, delimiter: str, encoding: str) -> None:
    text = (
        "ID, Patient ,image_t1,age,Image_FLAIR,label\r\n"
        "zwei,p1,scans/ä.nii,47,scans/b.nii,labels/ä.nii\r\n\r\n"
        "one,p1,scans/1 t1.nii.gz,,scans/1 flair.nii.gz,labels/1.nii.gz\r\n"
    )
    dataset = Table(root=write_table(tmp_path, text.replace(",", delimiter), WORDS, encoding=encoding))
    one, two = dataset()
    assert one.images == (tmp_path / "scans/1 t1.nii.gz", tmp_path / "scans/1 flair.nii.gz")
    assert two.label == tmp_path / "labels/ä.nii"
    assert (one.id, one.patient, two.id, two.patient) == ("one", "p1", "zwei", "p1")
    assert one.remap == {4: 2}
    assert dataset.channel_names() == ("t1", "flair")


def test_words_beside_the_table(tmp_path: Path) -> None:
    dataset = Table(root=write_table(tmp_path, "image,label\nscans/b.nii,labels/ä.nii\n", WORDS))
    assert [(label.value, label.name) for label in dataset.labels()] == [(1, "Oedema"), (2, "Tumour")]
    assert dataset.regions() == (LabelRegion("Whole", (1, 2), 1),)
    assert (dataset.modality(), dataset.title, dataset.licence()) == ("MR", "Our scans", "CC0")
    assert dataset.channel_names() == ("mr",)


def test_without_words_labels_are_asked_for(tmp_path: Path) -> None:
    dataset = Table(root=write_table(tmp_path, "image_ct,label\nscans/b.nii,labels/ä.nii\n"))
    assert (dataset.modality(), dataset.title, dataset.licence()) == ("CT", "our cases", "")
    assert dataset.regions() == ()
    with pytest.raises(InputError, match=r'our cases\.json names the labels, such as \{"labels"'):
        dataset.labels()


def test_ids_may_be_left_out(tmp_path: Path) -> None:
    text = f"image1,image2,label\nscans/ä.nii,scans/b.nii,{tmp_path}/labels/ä.nii\n"
    dataset = Table(root=write_table(tmp_path, text))
    (case,) = dataset()
    assert case.id == "ä"
    assert case.label == tmp_path / "labels/ä.nii"
    assert dataset.channel_names() == ("image 1", "image 2")


@pytest.mark.parametrize(
    ("image", "names"),
    [
        ({"image": "scans/b.nii"}, ("image 1",)),
        ({"images": ["scans/b.nii", "scans/ä.nii"]}, ("image 1", "image 2")),
        ({"images": {"T1": "scans/b.nii", "FLAIR": "scans/ä.nii"}}, ("T1", "FLAIR")),
        ({"image_T1": "scans/b.nii"}, ("t1",)),
    ],
)
def test_json_holds_both(tmp_path: Path, image: dict[str, Any], names: tuple[str, ...]) -> None:
    touch(tmp_path, FILES)
    path = tmp_path / "cases.json"
    case = {"id": 7, "label": "labels/ä.nii", "patient": None, **image}
    path.write_text(json.dumps({"cases": [case], "labels": {"Liver": 1}}))
    dataset = Table(root=path)
    (found,) = dataset()
    assert (found.id, found.patient) == ("7", "")
    assert found.images[0] == tmp_path / "scans/b.nii"
    assert len(found.images) == len(names)
    assert dataset.channel_names() == names
    assert [label.name for label in dataset.labels()] == ["Liver"]
    assert Table.looks_like(path) == 'it has "cases"'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "id,image,label\n1,scans/b.nii,\n,scans/b.nii,x\n",
            r"2 problems: line 2 has no label, line 3 has no id",
        ),
        ("id,image,label\n1,a,b\n\n1,c,d\n", "line 4 repeats the id '1' of line 2"),
        ("id,image,label\n1,scans/b.nii\n", r"line 2 has 2 cells and line 1 has 3 columns"),
        ('id,image,label\n1,"a,b",c\n2,a,b,c\n', "line 3 has 4 cells"),
        ("id,image,image,label\n", "line 1 has the column image more than once"),
        ("id,scan,lable\n1,a,b\n", "has no image and no label column; found id, scan, lable"),
        ("id,image,label\n1,gone.nii,labels/ä.nii\n", r"1 of 2 listed files are missing: .*gone\.nii"),
        ("id,image,label\n", "lists no case"),
        ("", "lists no case"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Table(root=write_table(tmp_path, text))()


@pytest.mark.parametrize(
    ("cases", "message"),
    [
        (
            [{"image": "a", "label": "b"}, {"image": ["a", "c"], "label": "b"}],
            "case 2. These have other channels",
        ),
        (["a.nii"], "case 1 is 'a.nii'"),
        ([], "lists no case"),
        ({"image": "a"}, "lists no case"),
    ],
)
def test_entries_are_named_by_number(tmp_path: Path, cases: Any, message: str) -> None:
    path = tmp_path / "cases.json"
    path.write_text(json.dumps({"cases": cases}))
    with pytest.raises(InputError, match=message):
        Table(root=path)()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"regions": [{"name": "a"}]}, '"regions" is to be a list'),
        ({"regions": 3}, '"regions" is to be a list'),
        ({"remap": {"a": 3}}, '"remap"'),
        ({"remap": [4, 3]}, '"remap"'),
    ],
)
def test_wrong_words_are_refused(tmp_path: Path, words: dict[str, Any], message: str) -> None:
    dataset = Table(root=write_table(tmp_path, "image,label\nscans/b.nii,labels/ä.nii\n", words))
    with pytest.raises(InputError, match=message):
        _ = dataset.regions(), dataset()


def test_other_encodings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not written in UTF-8"):
        Table(root=write_table(tmp_path, "image,label\nä.nii,ä.nii\n", encoding="latin-1"))()
    with pytest.raises(InputError, match="cannot be read"):
        Table(root=tmp_path / "gone.csv")()
