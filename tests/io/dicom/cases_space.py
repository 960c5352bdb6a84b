"""Cases about where voxels are: gantry tilt, the order of slices, gaps, noise, odd orientations."""

import numpy as np
from pydicom.dataset import Dataset

from tests.dicom_files import SeriesSpec, short
from tests.dicom_spec import ORIENTATIONS
from tests.io.dicom.case import Build, Exact, Expected, exact, only, refused, setting, then

_AXIAL = SeriesSpec()


def _moved(millimetres: float) -> list[list[float]]:
    """Positions of the default series with slice 3 moved within its plane."""
    positions = _AXIAL.slice_positions.tolist()
    positions[3][0] += millimetres
    return positions


def _rounded(decimals: int) -> SeriesSpec:
    spec = SeriesSpec(spacing_mm=(0.7, 0.9, 4 / 3), orientation="oblique", vendor="philips")
    return SeriesSpec(
        spacing_mm=spec.spacing_mm,
        orientation="oblique",
        vendor="philips",
        positions=np.round(spec.slice_positions, decimals),
    )


def _noisy_cosines(dataset: Dataset, number: int) -> None:
    noise = np.random.default_rng(number).uniform(-5e-5, 5e-5, 6)
    cosines = np.asarray([float(value) for value in dataset.ImageOrientationPatient]) + noise
    dataset.ImageOrientationPatient = [short(value) for value in cosines]


def _without(build: Build, *numbers: int, first: int = 0, **changes: object) -> Build:
    """A default series that has lost slices at its ends: still a volume, a smaller one."""

    def lose(folder):
        names = [f"IM{number * 7919 % 9973:04d}" for number in numbers]
        for name in names:
            (folder / name).unlink()

    kept = [number for number in range(7) if number not in numbers]
    grid = _AXIAL.grid.box((0, 0, kept[0]), (6, 5, kept[-1] + 1))
    return then(build, lose, volumes=[Exact(_AXIAL.truth[:, :, kept], grid)], **changes)


def _gap_filled(folder) -> Expected:
    """A slice is missing and gaps are allowed: the mean of its neighbours stands in its place."""
    refused(_AXIAL, "missing-slices", without=[3])(folder)
    truth = _AXIAL.truth.copy()
    truth[:, :, 3] = (truth[:, :, 2] + truth[:, :, 4]) / 2
    return Expected([Exact(truth, _AXIAL.grid, tolerance=0.51)], allow_gaps=True)


TILT = {
    "tilt 15, siemens": exact(SeriesSpec(tilt_degrees=15, vendor="siemens")),
    "tilt -22.5, ge, implicit": exact(SeriesSpec(tilt_degrees=-22.5, vendor="ge", syntax="implicit")),
    "tilt 30, philips, feet first, deflated": exact(
        SeriesSpec(tilt_degrees=30, vendor="philips", orientation="feet-first", syntax="deflated")
    ),
    "tilt 10, prone, big endian": exact(
        SeriesSpec(tilt_degrees=10, orientation="prone", syntax="big-endian")
    ),
    "tilt 18, canon, jittered": exact(SeriesSpec(tilt_degrees=18, vendor="canon", jitter_mm=0.005)),
    "tilt 12, oblique, rle": exact(SeriesSpec(tilt_degrees=12, orientation="oblique", syntax="rle")),
    "tilt with a slice missing": refused(SeriesSpec(tilt_degrees=15), "missing-slices", without=[3]),
}

ORDER = {
    "positions jitter by 10 micrometres": exact(SeriesSpec(jitter_mm=0.01, shape=(6, 5, 20))),
    "positions rounded to 0.01 mm, oblique": exact(_rounded(2)),
    "thickness and spacing between slices lie": exact(
        SeriesSpec(vendor="ge", edit=setting(SliceThickness="10", SpacingBetweenSlices="1"))
    ),
    "instance numbers lie": exact(SeriesSpec(edit=setting(InstanceNumber=lambda n: n * 3 % 7 + 1))),
    "all instance numbers are 1": exact(SeriesSpec(vendor="siemens", edit=setting(InstanceNumber=1))),
    "slice locations lie": exact(SeriesSpec(edit=setting(SliceLocation=lambda n: str(-n * 7)))),
    "file names run backwards": exact(SeriesSpec(file_name=lambda n: f"{99 - n}.dcm")),
    "far from the origin": exact(SeriesSpec(first_position=(-1250.5, 900.25, -2400.125))),
    "spacing 0.1 mm": exact(SeriesSpec(spacing_mm=(0.05, 0.06, 0.1))),
    "patient position says feet first, cosines say not": exact(
        SeriesSpec(vendor="siemens", edit=setting(PatientPosition="FFP"))
    ),
}

GAPS = {
    "one slice missing": refused(_AXIAL, "missing-slices", without=[3], says=["mm"]),
    "one slice missing, sagittal, philips": refused(
        SeriesSpec(orientation="sagittal", vendor="philips"), "missing-slices", without=[2]
    ),
    "two slices missing in a row": refused(_AXIAL, "missing-slices", without=[2, 3], says=["7.5"]),
    "two slices missing apart": refused(
        SeriesSpec(shape=(6, 5, 12), vendor="ge"), "missing-slices", without=[3, 7]
    ),
    "one slice missing of a hundred": refused(
        SeriesSpec(shape=(6, 5, 100), spacing_mm=(0.7, 0.9, 0.625)), "missing-slices", without=[50]
    ),
    "slices missing at the ends leave a smaller volume": _without(refused(_AXIAL, ""), 0, 6, refused=[]),
    "4 mm, then 7 mm": refused(
        SeriesSpec(offsets_mm=(0, 4, 8, 12, 19, 26, 33)), "irregular-spacing", says=["4", "7"]
    ),
    "2.5 mm, then 5 mm": refused(
        SeriesSpec(shape=(6, 5, 9), offsets_mm=(0, 2.5, 5, 7.5, 10, 15, 20, 25, 30)), "missing-slices"
    ),
    "one slice half a millimetre off": refused(
        SeriesSpec(offsets_mm=(0, 2.5, 5, 8.0, 10, 12.5, 15), vendor="siemens"), "irregular-spacing"
    ),
    "spacing grows slowly": refused(
        SeriesSpec(offsets_mm=tuple(2.5 * n + 0.05 * n * n for n in range(7))), "irregular-spacing"
    ),
    "one slice shifted within its plane": refused(SeriesSpec(positions=_moved(3.0)), "shifted-slices"),
    "gap of one slice filled on request": _gap_filled,
}

ORIENTATION = {
    **{
        f"{name}, {vendor}": exact(SeriesSpec(orientation=name, vendor=vendor))
        for name, vendor in zip(
            ORIENTATIONS, ("plain", "siemens", "ge", "philips", "canon", "siemens", "ge"), strict=True
        )
    },
    "cosines jitter by 5e-5": exact(SeriesSpec(edit=_noisy_cosines)),
    "cosines of zeros": refused(
        SeriesSpec(edit=setting(ImageOrientationPatient=["0"] * 6)), "bad-orientation"
    ),
    "cosines 30 degrees from a right angle": refused(
        SeriesSpec(edit=setting(ImageOrientationPatient=["1", "0", "0", "0.5", "0.8660254", "0"])),
        "bad-orientation",
    ),
    "no cosines": refused(SeriesSpec(edit=setting(ImageOrientationPatient=None)), "bad-orientation"),
    "one slice without position": refused(
        SeriesSpec(edit=only(3, setting(ImagePositionPatient=None))), "no-position", says=["IM"]
    ),
    "no slice has a position": refused(SeriesSpec(edit=setting(ImagePositionPatient=None)), "no-position"),
    "no pixel spacing": refused(SeriesSpec(edit=setting(PixelSpacing=None)), "no-spacing"),
    "pixel spacing of the detector only": refused(
        SeriesSpec(edit=setting(PixelSpacing=None, ImagerPixelSpacing=["0.9", "0.7"])), "no-spacing"
    ),
    "pixel spacing of zero": refused(SeriesSpec(edit=setting(PixelSpacing=["0", "0"])), "no-spacing"),
    "one slice": exact(SeriesSpec(shape=(6, 5, 1))),
    "one slice without thickness": refused(
        SeriesSpec(shape=(6, 5, 1), edit=setting(SliceThickness=None)), "no-spacing"
    ),
    "two slices, coronal": exact(SeriesSpec(shape=(6, 5, 2), orientation="coronal")),
    "three slices, ge": exact(SeriesSpec(shape=(6, 5, 3), vendor="ge")),
}
