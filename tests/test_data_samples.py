import gzip
import hashlib
import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest

from volseg.datasets import DATASETS
from volseg.io import read_label_map, read_volume

SAMPLES = Path(__file__).resolve().parents[1] / "data_samples"

_spec = importlib.util.spec_from_file_location("make_samples", SAMPLES / "make.py")
assert _spec is not None
assert _spec.loader is not None
make = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(make)


def data_files(folder: Path) -> list[str]:
    found = (path for path in folder.rglob("*") if path.name.endswith((".nii.gz", "dataset.json")))
    return sorted(path.relative_to(folder).as_posix() for path in found)


def plain(path: Path) -> bytes:
    """The content: deflate may differ between builds of zlib, what is packed may not."""
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


def test_the_readme_lists_every_file_with_its_checksum() -> None:
    rows = re.findall(
        r"^\| `([^`]+)` \| ([\d,]+) \| `([0-9a-f]{64})` \|$",
        (SAMPLES / "README.md").read_text(),
        re.MULTILINE,
    )
    assert sorted(name for name, _, _ in rows) == data_files(SAMPLES)
    for name, size, checksum in rows:
        content = (SAMPLES / name).read_bytes()
        assert len(content) == int(size.replace(",", "")), name
        assert hashlib.sha256(content).hexdigest() == checksum, name


def test_all_samples_stay_small() -> None:
    assert sum((SAMPLES / name).stat().st_size for name in data_files(SAMPLES)) <= 5_000_000


def test_make_writes_the_same_phantoms_again(tmp_path: Path) -> None:
    make.make(tmp_path)
    names = data_files(tmp_path)
    assert names == [name for name in data_files(SAMPLES) if not name.startswith("mni152")]
    for name in names:
        assert plain(tmp_path / name) == plain(SAMPLES / name), name


def test_packed_files_carry_no_time_and_no_name() -> None:
    for name in data_files(SAMPLES):
        if name.endswith(".gz"):
            header = (SAMPLES / name).read_bytes()[:8]
            assert header[3] == 0, name
            assert header[4:8] == bytes(4), name


@pytest.mark.parametrize("name", make.BODIES_ML)
def test_label_volumes_are_those_of_the_bodies(name: str) -> None:
    label_map = read_label_map(SAMPLES / name)
    exact_ml = make.BODIES_ML[name]
    assert set(np.unique(label_map.array).tolist()) == {0, *exact_ml}
    for value, volume_ml in exact_ml.items():
        found_ml = np.count_nonzero(label_map.array == value) * label_map.grid.voxel_volume_mm3 / 1000
        assert found_ml == pytest.approx(volume_ml, rel=0.03), f"label {value}"


def test_bodies_are_nested_as_their_volumes_assume() -> None:
    directions = np.random.default_rng(0).normal(size=(2000, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    nested = [
        (make.NECROSIS, make.ENHANCING),
        (make.ENHANCING, make.OEDEMA),
        *((n, make.LIVER) for n in make.LESIONS),
    ]
    for inner, outer in nested:
        reach = np.array(inner.centre_mm) + directions * max(inner.semi_axes_mm)
        assert outer.contains(reach).all()
    first, second = make.LESIONS
    gap = np.linalg.norm(np.subtract(first.centre_mm, second.centre_mm))
    assert gap > max(first.semi_axes_mm) + max(second.semi_axes_mm)


def test_bodies_lie_where_the_affine_says() -> None:
    label_map = read_label_map(SAMPLES / "LiTS_phantom/segmentation-0.nii.gz")
    volume = read_volume(SAMPLES / "LiTS_phantom/volume-0.nii.gz")
    assert volume.grid.is_same(label_map.grid)
    for lesion in make.LESIONS:
        i, j, k = np.rint(label_map.grid.world_to_index(lesion.centre_mm)).astype(int)
        assert label_map.array[i, j, k] == 2
        assert 0 < volume.array[0, i, j, k] < 100, "soft tissue in Hounsfield units"
    i, j, k = np.rint(label_map.grid.world_to_index((-60, 0, 70))).astype(int)
    assert volume.array[0, i, j, k] < -600, "the lung is on the patient's left"


def test_brats_phantom_has_four_channels_on_one_grid() -> None:
    case = SAMPLES / "BraTS_phantom/phantom_1"
    volume = read_volume([case / f"phantom_1_{name}.nii.gz" for name in ("flair", "t1", "t1ce", "t2")])
    label_map = read_label_map(case / "phantom_1_seg.nii.gz")
    assert volume.channels == 4
    assert volume.grid.is_same(label_map.grid)
    assert (volume.array[:, 0, 0, 0] == 0).all(), "BraTS is exactly 0 outside the brain"
    enhancing, oedema = (
        volume.array[2][label_map.array == 4].mean(),
        volume.array[2][label_map.array == 2].mean(),
    )
    assert enhancing > 2 * oedema, "t1ce is the third channel"


def test_msd_phantom_is_a_dataset() -> None:
    dataset = DATASETS.build({"name": "msd", "root": SAMPLES / "msd_phantom"})
    cases = dataset()
    assert [case.id for case in cases] == [f"phantom_{number:03d}" for number in range(1, 6)]
    assert [label.name for label in dataset.labels()] == ["front", "back"]
    assert dataset.channel_names() == ("MRI",)
    for case in cases:
        assert case.label is not None
        label_map, volume = read_label_map(case.label), read_volume(case.images)
        assert volume.grid.is_same(label_map.grid)
        assert volume.grid.shape == (20, 24, 20)


def test_hippocampus_crops_lie_on_both_sides_and_mirror_each_other() -> None:
    right, left = (
        read_volume(SAMPLES / f"mni152_t1_hippocampus_{side}.nii.gz") for side in ("right", "left")
    )
    assert right.grid.shape == left.grid.shape == (36, 50, 36)
    assert right.grid.spacing_mm == left.grid.spacing_mm == (1, 1, 1)
    assert right.grid.axis_codes == left.grid.axis_codes == "RAS"
    np.testing.assert_array_equal(right.grid.index_to_world((0, 0, 0)), (8, -46, -29))
    np.testing.assert_array_equal(left.grid.index_to_world((35, 0, 0)), (-8, -46, -29))
    np.testing.assert_array_equal(right.array, left.array[:, ::-1])


def test_the_notice_of_the_template_is_beside_its_crops() -> None:
    notice = (SAMPLES / "LICENSE-ICBM152.txt").read_text()
    assert "Copyright (C) 1993-2009 Louis Collins" in notice
    assert "LICENSE-ICBM152.txt" in (SAMPLES / "README.md").read_text()
