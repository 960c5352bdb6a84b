"""`volseg predict` on a whole head: both sides are found and told apart; what is no T1 head is refused, or forced."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from tests.cli.conftest import tiny_info
from tests.locate.heads import head_of, mapped, pose, read_template, scan_of
from volseg.models.unetpp import UNetPlusPlus
from volseg.package import LabelInfo, write_package

CENTRES_MM = np.array([[26.0, -23, -12], [-26, -23, -12]])
SIDES = ("Right", "Left")


@pytest.fixture(scope="module")
def head():
    return head_of(read_template())


@pytest.fixture(scope="module")
def located_package(tmp_path_factory):
    """The untrained network in a package that looks around both hippocampi."""
    path = tmp_path_factory.mktemp("models") / "located.volseg"
    boxes = [
        {
            "name": f"{side.lower()} hippocampus",
            "centre_mm": centre.tolist(),
            "size_mm": [16, 16, 16],
            "mirrored": side == "Right",
            "values": [first, first + 1],
            "plausible_ml": [20, 30],
        }
        for side, centre, first in zip(SIDES, CENTRES_MM, (1, 3), strict=True)
    ]
    located = [
        LabelInfo(value=value, name=name, colour=(value, 0, 0))
        for value, name in enumerate(
            [f"{side} {part} hippocampus" for side in SIDES for part in ("anterior", "posterior")], start=1
        )
    ]
    step = {"name": "atlas", "boxes": boxes, "crop_mm": [60, 60, 60]}
    info = tiny_info(1).model_copy(update={"locate": step, "located_labels": located})
    torch.manual_seed(5)
    network = UNetPlusPlus(dimensions=3, widths=(4, 6)).build(1, 3)
    weights = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    write_package(path, info=info, weights=weights, card="# Tiny", golden=None, template=read_template())
    return path


def test_a_head_gives_both_sides_on_its_own_grid(volseg_cli, write_nifti, located_package, head, tmp_path):
    affine = pose(degrees=(6, -8, 10), scale=0.92, shift_mm=(20, -15, 30))
    volume = scan_of(head, affine, spacing_mm=(2.5, 2.5, 2.5))
    scan = write_nifti(tmp_path / "head.nii.gz", volume.array[0], volume.grid.affine)
    preview = tmp_path / "head.png"
    outcome = volseg_cli("predict", scan, "-m", located_package, "--json", "--preview", preview)
    assert outcome.code == 0, outcome.err
    written = nib.load(tmp_path / "head_seg.nii.gz")
    labels = np.asarray(written.dataobj)
    assert labels.shape == volume.grid.shape
    for values, expected in (((1, 2), 0), ((3, 4), 1)):
        found = nib.affines.apply_affine(written.affine, np.argwhere(np.isin(labels, values)))
        place = mapped(affine, CENTRES_MM)[expected]
        assert len(found) > 0
        assert np.linalg.norm(found - place, axis=1).max() < 28  # the half diagonal of the box, grown once
    assert preview.stat().st_size > 10_000
    for side in SIDES:
        assert f"{side} anterior hippocampus" in outcome.out
    assert "asymmetry" in outcome.out
    record = json.loads((tmp_path / "head_seg.json").read_text())
    assert any("usual are 20 to 30 ml" in text for text in record["warnings"])
    assert "usual are 20 to 30 ml" in outcome.out


def test_one_value_everywhere_is_refused_and_nothing_is_written(
    volseg_cli, write_nifti, located_package, tmp_path
):
    scan = write_nifti(tmp_path / "empty.nii.gz", np.zeros((90, 100, 80), np.int16), np.diag([2, 2, 2, 1.0]))
    outcome = volseg_cli("predict", scan, "-m", located_package)
    assert outcome.code != 0
    assert "every voxel of it has the value 0" in outcome.err
    assert "--force" in outcome.err
    assert [path.name for path in tmp_path.iterdir()] == ["empty.nii.gz"]


def test_force_labels_what_is_refused_and_says_so(volseg_cli, write_nifti, located_package, head, tmp_path):
    array = np.where(head.array[0] > 30, 270 - head.array[0], head.array[0])
    scan = write_nifti(tmp_path / "t2.nii.gz", array, head.grid.affine)
    outcome = volseg_cli("predict", scan, "-m", located_package, "--json", "--force")
    assert outcome.code == 0, outcome.err
    words = "forced: the correlation with the template's brain"
    assert words in outcome.out
    assert any(
        text.startswith(words) for text in json.loads((tmp_path / "t2_seg.json").read_text())["warnings"]
    )


DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


@pytest.mark.data
@pytest.mark.skipif(not DATA.exists(), reason="the shared data are not there")
def test_no_label_lies_outside_the_brain_of_a_patient_with_glioma(volseg_cli, tmp_path):
    paths = sorted((DATA / "BraTS18").glob("*/*_t1.nii.gz"))
    assert len(paths) > 5
    for path in paths:
        target = tmp_path / "labels.nii.gz"
        assert volseg_cli("predict", path, "-o", target).code == 0
        labels, brain = (np.asarray(nib.load(file).dataobj) > 0 for file in (target, path))
        assert labels.any()
        assert not (labels & ~brain).any(), path.name
