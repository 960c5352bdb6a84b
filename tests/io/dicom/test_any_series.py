"""Whatever the orientation, tilt, spacing, vendor, number format and transfer syntax: the volume is exact."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from tests.dicom_enhanced import Frames, write_enhanced
from tests.dicom_files import VENDORS, SeriesSpec, Written, write_series
from volseg.io import read_volume

SYNTAXES = ("implicit", "explicit", "deflated", "big-endian", "rle", "jpeg-ls", "jpeg-lossless")
_FLOAT32_ROUNDING = 2e-7


@st.composite
def specs(draw: st.DrawFn, modalities: Sequence[str]) -> SeriesSpec:
    """A regular series with anything allowed varied."""
    degrees = draw(st.tuples(*[st.floats(-180, 180)] * 3))
    turned = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
    slices = draw(st.integers(2, 9))
    bits = draw(st.integers(9, 16))
    return SeriesSpec(
        shape=(draw(st.integers(9, 13)), draw(st.integers(9, 13)), slices),
        spacing_mm=draw(st.tuples(st.floats(0.2, 3), st.floats(0.2, 3), st.floats(0.4, 10))),
        orientation=turned[:, :2].T.ravel().tolist(),
        tilt_degrees=draw(st.floats(-30, 30)),
        first_position=draw(st.tuples(*[st.floats(-900, 900)] * 3)),
        jitter_mm=draw(st.sampled_from([0.0, 0.005])),
        vendor=draw(st.sampled_from(VENDORS)),
        modality=draw(st.sampled_from(modalities)),
        syntax=draw(st.sampled_from(SYNTAXES)),
        bits_stored=bits,
        is_signed=draw(st.booleans()),
        slope=draw(st.sampled_from([1.0, 2.0, 0.5, [0.5 + 0.125 * n for n in range(slices)]])),
        intercept=draw(st.sampled_from([0.0, -1024.0, -0.5])),
        seed=draw(st.integers(0, 99)),
    )


@settings(max_examples=25, deadline=None)
@given(spec=specs(["CT", "MR", "PT"]))
def test_single_frames(spec: SeriesSpec):
    with tempfile.TemporaryDirectory() as name:
        check_exact(write_series(Path(name) / "export", spec), Path(name))


@settings(max_examples=15, deadline=None)
@given(spec=specs(["CT", "MR"]), seed=st.integers(0, 99), is_shared=st.booleans(), parts=st.integers(1, 2))
def test_multi_frame(spec: SeriesSpec, seed: int, is_shared: bool, parts: int):
    frames = Frames(
        order=lambda count: np.random.default_rng(seed).permutation(count).tolist(),
        shared=("measures", "orientation") if is_shared else (),
        parts=parts,
    )
    with tempfile.TemporaryDirectory() as name:
        check_exact(write_enhanced(Path(name) / "enhanced.dcm", spec, frames), Path(name))


def check_exact(written: Written, folder: Path) -> None:
    """Every voxel and every corner; the marker is where it was put."""
    volume = read_volume(folder)
    assert volume.grid.distance_mm(written.grid) < 0.02
    off = np.abs(volume.array[0].astype(np.float64) - written.truth)
    assert (off <= _FLOAT32_ROUNDING * np.abs(written.truth)).all()
    if np.isscalar(written.spec.slope):
        brightest = np.unravel_index(int(volume.array[0].argmax()), volume.grid.shape)
        assert np.abs(volume.grid.index_to_world(brightest) - written.marker_ras).max() < 0.02
