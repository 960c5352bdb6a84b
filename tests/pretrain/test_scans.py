"""Which scans are seen, and above all which are not."""

import json
import shutil

import numpy as np
import pytest

from tests.dicom_files import SeriesSpec, write_series
from volseg.cases import read_image
from volseg.errors import InputError
from volseg.pretrain.data import load_scans
from volseg.pretrain.scans import find_cases, folder_cases, is_collection, with_root
from volseg.train.split import split_dataset


def ids(cases):
    return [case.id for case in cases]


def test_the_fold_that_is_held_out_is_never_seen_also_in_a_folder_and_among_test_images(
    quick, tmp_path, write_scan
):
    config = quick()
    training, held_out = split_dataset(config.dataset, config.split)
    assert ids(find_cases(config)) == ids(training)
    assert all(case.label is None for case in find_cases(config))
    folder = tmp_path / "more"
    write_scan(folder / "deep" / "new.nii.gz")
    (folder / "link.nii.gz").symlink_to(held_out[0].images[0])
    (folder / "again.nii.gz").symlink_to(training[0].images[0])
    found = find_cases(config.model_copy(update={"folders": (folder,)}))
    assert ids(found) == sorted([*ids(training), "deep/new.nii.gz"])
    everyone = find_cases(quick("split.fold=all"))
    assert len(everyone) == len(training) + len(held_out)


def test_test_images_are_seen_unless_left_out(quick, tmp_path, write_scan):
    config = quick()
    root = tmp_path / "collection"
    shutil.copytree(config.dataset.root, root)
    write_scan(root / "imagesTs" / "t.nii.gz")
    write_scan(root / "imagesTs" / "._t.nii.gz")
    moved, _ = with_root(config, root)
    assert "imagesTs/t" in ids(find_cases(moved))
    assert "imagesTs/t" not in ids(find_cases(moved.model_copy(update={"test_images": False})))


def test_every_kind_of_file_is_one_case(tmp_path, write_scan):
    from volseg.io import read_volume, write_volume

    volume = read_volume(write_scan(tmp_path / "a.nii.gz"))
    for name in ("b.nrrd", "c/d.mha", "e.mhd"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_volume(volume, tmp_path / name)
    import nibabel as nib

    nib.save(nib.Nifti1Pair(np.zeros((4, 4, 4), np.int16), np.eye(4)), tmp_path / "f.hdr")
    (tmp_path / "notes.txt").write_text("no scan")
    assert ids(folder_cases(tmp_path)) == ["a.nii.gz", "b.nrrd", "c/d.mha", "e.mhd", "f.hdr"]


def test_what_a_folder_is_taken_for(quick, tmp_path, write_scan):
    config = quick()
    write_scan(tmp_path / "plain" / "a.nii.gz")
    assert is_collection(config.dataset.root)
    assert not is_collection(tmp_path / "plain")
    beside, why = with_root(config, tmp_path / "plain")
    assert beside.folders == (tmp_path / "plain",)
    assert "beside the training cases of Phantom" in why
    assert with_root(beside, tmp_path / "plain")[0].folders == beside.folders
    forced, _ = with_root(config, config.dataset.root, "folder")
    assert forced.folders == (config.dataset.root.absolute(),)
    with pytest.raises(InputError, match="there is no such folder"):
        with_root(config, tmp_path / "nothing")


def test_an_empty_folder_is_refused(quick, tmp_path):
    with pytest.raises(InputError, match="holds no scan to learn from"):
        find_cases(quick("dataset=null", f"folders=[{tmp_path}]"))


def test_dicom_series_are_cases_beside_files(quick, tmp_path, write_scan):
    root = tmp_path / "export"
    write_scan(root / "a.nii.gz")
    write_series(root / "x" / "one", SeriesSpec(shape=(13, 11, 9), seed=1, series_uid="1.2.3.1"))
    write_series(root / "x" / "two", SeriesSpec(shape=(12, 14, 10), seed=2, series_uid="1.2.3.2"))
    found = {case.images[0].name: case for case in folder_cases(root)}
    assert set(found) == {"a.nii.gz", "one", "two"}
    assert read_image(found["two"]).grid.shape == (12, 14, 10)
    config = quick("dataset=null", f"folders=[{root}]", "patch_voxels=[8,8,8]", "preprocess=[{name: zscore}]")
    data = load_scans(find_cases(config), config, tmp_path / "cache")
    assert ids(data.held_out) == ["a.nii.gz"], "both series are of one patient, who is not divided"
    assert len(data.training) == 2


def test_one_broken_scan_is_named_and_left_out_and_all_are_refused(quick, tmp_path, write_scan, caplog):
    folder = tmp_path / "scans"
    for seed in range(3):
        write_scan(folder / f"good{seed}.nii.gz", seed)
    (folder / "broken.nii.gz").write_bytes(b"no scan at all")
    (folder / "lost.nii.gz").symlink_to(tmp_path / "nowhere.nii.gz")
    write_scan(folder / "tiny.nii.gz", shape=(4, 23, 17))
    config = quick("dataset=null", f"folders=[{folder}]", "held_out.fraction=0.3")
    told = []
    data = load_scans(
        find_cases(config), config, tmp_path / "cache", report=lambda done, total: told.append((done, total))
    )
    assert len(data.training) == 2
    assert len(data.held_out) == 1
    assert told[-1] == (6, 6)
    for name in ("broken", "lost", "tiny"):
        assert f"scan {name}.nii.gz is left out" in caplog.text
    assert "less than half of a patch" in caplog.text
    assert not np.asarray(data.training[0].labels[:]).any()
    for path in folder.glob("good*"):
        path.unlink()
    with pytest.raises(InputError, match="none of the 3 scans can be used"):
        load_scans(find_cases(config), config, tmp_path / "cache")


def test_scans_of_other_channels_are_refused(quick, tmp_path, write_scan):
    for seed in range(3):
        write_scan(tmp_path / "s" / f"{seed}.nii.gz", seed)
    write_scan(tmp_path / "s" / "two.nii.gz", channels=2)
    config = quick("dataset=null", f"folders=[{tmp_path / 's'}]")
    with pytest.raises(
        InputError, match=r"most of the scans have 1 channel, but not two\.nii\.gz \(2 channels\)"
    ):
        load_scans(find_cases(config), config, tmp_path / "cache")


def test_another_scan_does_not_change_which_are_set_aside_first(quick, tmp_path, write_scan):
    for seed in range(6):
        write_scan(tmp_path / "s" / f"{seed}.nii.gz", seed)
    config = quick("dataset=null", f"folders=[{tmp_path / 's'}]", "held_out.fraction=0.34")
    aside = ids(load_scans(find_cases(config), config, tmp_path / "cache").held_out)
    assert len(aside) == 2
    none = load_scans(find_cases(config), quick("dataset=null", "held_out.fraction=0"), tmp_path / "cache")
    assert not none.held_out
    (tmp_path / "s" / next(iter(set(map(str, (f"{n}.nii.gz" for n in range(6)))) - set(aside)))).unlink()
    again = ids(load_scans(find_cases(config), config, tmp_path / "cache").held_out)
    assert set(again) <= set(aside)


def test_nnunet_test_images_have_one_file_per_channel(tmp_path, write_scan):
    from volseg.datasets.nnunet_raw import NnunetRaw
    from volseg.pretrain.scans import unlabelled_cases

    for name in ("a_0000", "a_0001", "b_0000"):
        write_scan(tmp_path / "imagesTs" / f"{name}.nii.gz")
    description = {
        "channel_names": {"0": "T1", "1": "T2"},
        "labels": {"background": 0, "x": 1},
        "file_ending": ".nii.gz",
    }
    (tmp_path / "dataset.json").write_text(json.dumps(description))
    (case,) = unlabelled_cases(NnunetRaw(root=tmp_path))
    assert case.id == "imagesTs/a"
    assert [path.name for path in case.images] == ["a_0000.nii.gz", "a_0001.nii.gz"]


def test_a_folder_beside_a_collection_that_is_not_there_is_told_how_to_go_alone(quick, tmp_path):
    config = quick()
    gone = config.dataset.model_copy(update={"root": tmp_path / "gone"})
    with pytest.raises(InputError, match="add dataset=null to learn from the folder alone"):
        with_root(config.model_copy(update={"dataset": gone}), tmp_path)
    alone, why = with_root(config.model_copy(update={"dataset": None}), tmp_path)
    assert alone.folders == (tmp_path,)
    assert "beside" not in why
