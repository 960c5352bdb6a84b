import numpy as np
import pytest

from volseg.io.dicom.gaps import fill_planes


def ramp(at):
    """Planes whose intensity is linear along the slices: interpolation gives it exactly."""
    rows, columns = np.mgrid[:3, :4]
    return np.stack([(100 * z + 10 * rows + columns) for z in at]).astype(np.int16)


def test_missing_slices_are_interpolated():
    filled = fill_planes(ramp([0, 1, 4]), [0, 1, 4], 5)
    assert filled.dtype == np.float32
    np.testing.assert_allclose(filled, ramp(range(5)), rtol=1e-6)


def test_fractional_planes_are_interpolated_and_ends_kept():
    at = [0, 0.5, 1.25, 3.0]
    planes = ramp(np.array(at) * 4).astype(np.float32)
    filled = fill_planes(planes, at, 4)
    np.testing.assert_allclose(filled, ramp(np.arange(4) * 4), rtol=1e-6)
    np.testing.assert_array_equal(filled[-1], planes[-1])


def test_planes_that_are_all_there_keep_their_type():
    planes = ramp(range(4))
    filled = fill_planes(planes, [0, 1, 2 + 1e-9, 3], 4)
    assert filled.dtype == np.int16
    np.testing.assert_array_equal(filled, planes)


@pytest.mark.parametrize("slices", [[0, 1], [0, 2, 1], [0, 1, 1], [0.5, 1, 3], [0, 1, 2.5]])
def test_slices_that_do_not_fit_are_refused(slices):
    with pytest.raises(ValueError, match="slices"):
        fill_planes(ramp([0, 1, 3]), slices, 4)
