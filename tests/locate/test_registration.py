import numpy as np
import pytest

from tests.locate.heads import HIPPOCAMPI_MM, mapped, pose, scan_of
from volseg.errors import IntensityError
from volseg.geometry import Grid
from volseg.locate.registration import register
from volseg.resample import resample_volume
from volseg.volume import Volume


def worst_mm(found, affine):
    return np.linalg.norm(found.map(HIPPOCAMPI_MM) - mapped(affine, HIPPOCAMPI_MM), axis=1).max()


@pytest.mark.parametrize(
    ("fields", "imaging"),
    [
        ({"degrees": (20, -25, 28), "scale": 0.88, "shift_mm": (70, -60, 80)}, {"bias": 0.4}),
        pytest.param(
            {"degrees": (-30, 10, -15), "scale": 1.1},
            {"spacing_mm": (1.2, 3.0, 2.2), "noise": 8.0},
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_turned_scaled_shifted_head_is_found(template, head, fields, imaging):
    affine = pose(**fields)
    found = register(template, scan_of(head, affine, **imaging))
    assert worst_mm(found, affine) < 2
    assert found.disagreement_mm < 2


def test_without_skull_and_with_the_upper_half_cut_off(template, head):
    affine = pose(degrees=(-12, 5, 8), scale=0.9, shift_mm=(5, 30, -40))
    brain = Volume(template.array.astype(np.float32), template.grid)
    whole = scan_of(brain, affine)
    i, j, k = whole.grid.shape
    part = Volume(whole.array[:, :, :, : k * 6 // 10], whole.grid.box((0, 0, 0), (i, j, k * 6 // 10)))
    assert worst_mm(register(template, part), affine) < 3


@pytest.mark.slow
def test_the_order_of_the_axes_changes_nothing_and_neither_does_another_run(template, head):
    scan = scan_of(head, pose(degrees=(5, 10, -8), scale=0.92))
    order, flips = scan.grid.axes_towards("IRP")
    array = np.flip(scan.array[0].transpose(order), [axis for axis in range(3) if flips[axis]])
    turned = Volume(array, scan.grid.reoriented("IRP"))
    assert np.allclose(register(template, turned).affine, register(template, scan).affine, atol=1e-9)


def test_an_oblique_acquisition(template, head):
    affine = pose(degrees=(0, 0, 10), scale=0.95)
    upright = scan_of(head, affine)
    tilt = pose(degrees=(25, 0, 0))
    grid = Grid((90, 105, 75), tilt @ np.diag([2.2, 2.2, 2.6, 1.0]))
    centre = upright.grid.corners().mean(axis=0) - grid.corners().mean(axis=0)
    placed = grid.affine.copy()
    placed[:3, 3] += centre
    found = register(template, resample_volume(upright, Grid(grid.shape, placed)))
    assert worst_mm(found, affine) < 2


def test_holes_in_the_numbers_are_refused(template, head):
    array = head.array.copy()
    array[0, 3, 3, 3] = np.nan
    with pytest.raises(IntensityError, match="NaN or infinity"):
        register(template, Volume(array, head.grid))
