"""NIfTI and space: sform, qform, units, and what of them a result carries."""

import logging
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.grids import SHAPE, SPACING_MM, affine_of, oblique_grid
from tests.io.images import save_nifti, some_voxels
from volseg.errors import GeometryError
from volseg.geometry import Grid
from volseg.io import read_label_map, read_volume, write_label_map
from volseg.origin import Origin
from volseg.volume import LabelMap


def header_of(path: Path) -> nib.Nifti1Header:
    return nib.load(path).header


def labels_on(grid: Grid) -> LabelMap:
    return LabelMap((np.arange(np.prod(grid.shape)) % 3).reshape(grid.shape), grid)


def nifti_with_forms(
    path: Path, *, sform: np.ndarray | None, qform: np.ndarray | None, codes: tuple[int, int] = (2, 1)
) -> Path:
    image = nib.Nifti1Image(some_voxels(), None)
    image.set_sform(sform, codes[0] if sform is not None else 0)
    image.set_qform(qform, codes[1] if qform is not None else 0)
    image.header.set_xyzt_units("mm", "sec")
    nib.save(image, path)
    return path


def test_sform_is_preferred_and_a_disagreement_is_told_in_mm(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sform, qform = affine_of(), affine_of(origin_mm=(-31.25, 45.5, 21.0))
    path = nifti_with_forms(tmp_path / "scan.nii", sform=sform, qform=qform)
    with caplog.at_level(logging.WARNING, logger="volseg.io"):
        volume = read_volume(path)
    np.testing.assert_allclose(volume.grid.affine, sform, atol=1e-5)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "up to 5.00 mm apart; using the sform" in caplog.text
    assert "scan.nii" in caplog.text


def test_agreeing_forms_say_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    read_volume(nifti_with_forms(tmp_path / "scan.nii", sform=affine_of(), qform=affine_of()))
    assert not caplog.records


def test_qform_alone_is_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    affine = affine_of(flip=(False, True, False))
    volume = read_volume(nifti_with_forms(tmp_path / "scan.nii", sform=None, qform=affine))
    np.testing.assert_allclose(volume.grid.affine, affine, atol=1e-4)
    assert not caplog.records


def test_without_any_form_the_grid_is_nibabels_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = nifti_with_forms(tmp_path / "scan.nii", sform=None, qform=None)
    path = save_nifti(path, affine=affine_of(), sform_code=0, qform_code=0)
    volume = read_volume(path)
    np.testing.assert_allclose(volume.grid.affine, nib.load(path).affine, atol=1e-5)
    assert "does not say where the patient is" in caplog.text


def test_a_broken_qform_does_not_hurt_a_good_sform(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = save_nifti(tmp_path / "scan.nii", qform_code=1, quatern_b=5.0, quatern_c=5.0)
    np.testing.assert_allclose(read_volume(path).grid.affine, affine_of(), atol=1e-5)
    assert "qform is unusable" in caplog.text


def test_a_broken_qform_alone_is_refused(tmp_path: Path) -> None:
    path = save_nifti(tmp_path / "scan.nii", sform_code=0, qform_code=1, quatern_b=5.0)
    with pytest.raises(GeometryError, match=r"scan\.nii.*qform"):
        read_volume(path)


def test_qfac_zero_stands_for_one(tmp_path: Path) -> None:
    path = nifti_with_forms(tmp_path / "scan.nii", sform=None, qform=affine_of())
    raw = bytearray(path.read_bytes())
    assert np.frombuffer(raw[76:80], "<f4")[0] == 1
    raw[76:80] = np.float32(0).tobytes()
    path.write_bytes(raw)
    np.testing.assert_allclose(read_volume(path).grid.affine, affine_of(), atol=1e-4)


@pytest.mark.parametrize(
    ("unit", "factor"), [("meter", 1000.0), ("micron", 0.001), ("mm", 1.0), ("unknown", 1.0)]
)
def test_lengths_in_other_units_become_mm_and_go_back(tmp_path: Path, unit: str, factor: float) -> None:
    image = nib.Nifti1Image(some_voxels(), affine_of())
    image.header.set_xyzt_units(unit, "sec")
    nib.save(image, tmp_path / "scan.nii")
    volume = read_volume(tmp_path / "scan.nii")
    np.testing.assert_allclose(volume.grid.affine[:3], affine_of()[:3] * factor, rtol=1e-6)
    write_label_map(labels_on(volume.grid), tmp_path / "seg.nii", source=volume)
    written = nib.load(tmp_path / "seg.nii")
    assert written.header.get_xyzt_units() == (unit, "sec")
    np.testing.assert_array_equal(written.affine, nib.load(tmp_path / "scan.nii").affine)
    assert read_label_map(tmp_path / "seg.nii").grid.distance_mm(volume.grid) < 1e-6 * factor


def test_sheared_affines_are_accepted_and_kept(tmp_path: Path) -> None:
    """As from a tilted gantry; ITK refuses these."""
    affine = affine_of(shear=0.3)
    path = save_nifti(tmp_path / "scan.nii.gz", affine=affine)
    volume = read_volume(path)
    np.testing.assert_allclose(volume.grid.affine, affine, atol=1e-5)
    write_label_map(labels_on(volume.grid), tmp_path / "seg.nii.gz", source=volume)
    np.testing.assert_array_equal(nib.load(tmp_path / "seg.nii.gz").affine, nib.load(path).affine)


@pytest.mark.parametrize("codes", [(1, 1), (2, 1), (4, 2), (3, 3)])
def test_the_sources_codes_affines_and_units_are_carried(tmp_path: Path, codes: tuple[int, int]) -> None:
    affine = affine_of(flip=(True, False, False))
    path = nifti_with_forms(tmp_path / "scan.nii.gz", sform=affine, qform=affine, codes=codes)
    source = read_volume(path)
    write_label_map(labels_on(source.grid), tmp_path / "seg.nii.gz", source=source)
    before, after = header_of(path), header_of(tmp_path / "seg.nii.gz")
    for name in ("sform_code", "qform_code", "xyzt_units", "srow_x", "srow_y", "srow_z"):
        np.testing.assert_array_equal(after[name], before[name], err_msg=name)
    np.testing.assert_allclose(after.get_qform(), before.get_qform(), atol=1e-4)
    np.testing.assert_allclose(after["pixdim"], before["pixdim"], rtol=1e-6)
    assert after["scl_slope"] in (1, np.nan) or np.isnan(after["scl_slope"])


def test_a_source_with_only_a_qform_gives_a_result_with_only_a_qform(tmp_path: Path) -> None:
    source = read_volume(nifti_with_forms(tmp_path / "scan.nii", sform=None, qform=affine_of()))
    write_label_map(labels_on(source.grid), tmp_path / "seg.nii", source=source)
    header = header_of(tmp_path / "seg.nii")
    assert (header["sform_code"], header["qform_code"]) == (0, 1)
    assert read_label_map(tmp_path / "seg.nii").grid.distance_mm(source.grid) < 1e-2


def test_a_source_without_position_gives_a_result_without_position(tmp_path: Path) -> None:
    source = read_volume(save_nifti(tmp_path / "scan.nii", sform_code=0, qform_code=0))
    write_label_map(labels_on(source.grid), tmp_path / "seg.nii", source=source)
    header = header_of(tmp_path / "seg.nii")
    assert (header["sform_code"], header["qform_code"]) == (0, 0)
    np.testing.assert_array_equal(
        nib.load(tmp_path / "seg.nii").affine, nib.load(tmp_path / "scan.nii").affine
    )


def test_a_result_on_another_grid_than_a_source_without_position_gets_an_sform(tmp_path: Path) -> None:
    source = read_volume(save_nifti(tmp_path / "scan.nii", sform_code=0, qform_code=0))
    write_label_map(labels_on(oblique_grid()), tmp_path / "seg.nii", source=source)
    assert header_of(tmp_path / "seg.nii")["sform_code"] > 0
    assert read_label_map(tmp_path / "seg.nii").grid.is_same(oblique_grid())


def test_a_qform_that_tells_another_place_is_dropped(tmp_path: Path) -> None:
    elsewhere = affine_of(degrees=(0.0, 0.0, 0.0))
    source = read_volume(nifti_with_forms(tmp_path / "scan.nii", sform=affine_of(), qform=elsewhere))
    write_label_map(labels_on(source.grid), tmp_path / "seg.nii", source=source)
    header = header_of(tmp_path / "seg.nii")
    assert (header["sform_code"], header["qform_code"]) == (2, 0)
    np.testing.assert_allclose(header.get_sform(), affine_of(), atol=1e-5)


@pytest.mark.parametrize(("shear", "qform_code"), [(0.0, 1), (0.3, 0)])
def test_without_a_source_both_forms_are_written_where_both_can_be(
    tmp_path: Path, shear: float, qform_code: int
) -> None:
    write_label_map(labels_on(oblique_grid(shear)), tmp_path / "seg.nii.gz")
    header = header_of(tmp_path / "seg.nii.gz")
    assert (header["sform_code"], header["qform_code"]) == (1, qform_code)
    assert header.get_xyzt_units()[0] == "mm"
    np.testing.assert_allclose(header["pixdim"][1:4], SPACING_MM, rtol=1e-6)


def test_source_may_be_named_by_the_label_maps_own_origin(tmp_path: Path) -> None:
    source = read_volume(nifti_with_forms(tmp_path / "scan.nii", sform=affine_of(), qform=None, codes=(4, 0)))
    label_map = LabelMap(np.ones(SHAPE, np.uint8), source.grid, origin=Origin(nifti=source.origin.nifti))
    write_label_map(label_map, tmp_path / "seg.nii")
    assert (header_of(tmp_path / "seg.nii")["sform_code"], header_of(tmp_path / "seg.nii")["qform_code"]) == (
        4,
        0,
    )
