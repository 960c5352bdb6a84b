from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.io.dicom.frames import ENCODING, SHAPE, SPACING, Truth, axial, make_frame, names, with_traits
from volseg.io.dicom.frame import Frame, Reason, Stack
from volseg.io.dicom.geometry import place_frames

CHECKED = settings(max_examples=40, deadline=None)
ANGLE = st.floats(-180, 180)


def reason(stack: Stack) -> Reason | None:
    assert (stack.grid is None) == (stack.refusal is not None)
    return stack.refusal.reason if stack.refusal else None


def shuffled(frames: list[Frame], seed: int) -> list[Frame]:
    return [frames[index] for index in np.random.default_rng(seed).permutation(len(frames))]


@CHECKED
@given(
    st.tuples(ANGLE, ANGLE, ANGLE),
    st.floats(0.3, 9),
    st.floats(-0.6, 0.6),
    st.floats(-0.6, 0.6),
    st.integers(2, 30),
    st.integers(0, 999),
)
def test_any_rotation_and_tilt_is_exact(rotation, spacing, shear_i, shear_j, count, seed):
    truth = Truth(rotation, (shear_i * spacing, shear_j * spacing, spacing), count)
    stack = place_frames(shuffled(truth.frames(), seed))
    assert stack.grid is not None
    assert stack.grid.shape == (*SHAPE, count)
    assert names(stack.frames) == names(truth.frames())
    assert stack.slices == tuple(range(count))
    for index in [(0, 0, 0), (4, 0, 1), (0, 5, 1), (4, 5, count - 1)]:
        assert np.abs(stack.grid.index_to_world(index) - truth.ras(*index)).max() < 1e-6


def test_slices_rise_along_the_normal_whatever_the_numbers_say():
    frames = [replace(frame, instance_number=9 - index) for index, frame in enumerate(axial([0, 3, 6, 9]))]
    assert place_frames(frames).slices == (0, 1, 2, 3)
    assert names(place_frames(frames).frames) == ["s000", "s001", "s002", "s003"]
    flipped = [replace(frame, orientation=(1, 0, 0, 0, -1, 0)) for frame in frames]
    stack = place_frames(flipped)
    assert names(stack.frames) == ["s003", "s002", "s001", "s000"]
    assert stack.grid is not None
    assert np.linalg.det(stack.grid.to_lps()[:3, :3]) > 0


@CHECKED
@given(st.tuples(ANGLE, ANGLE, ANGLE), st.floats(0.6, 5), st.floats(-0.5, 0.5), st.integers(0, 9999))
def test_jitter_of_20_micrometres_is_noise(rotation, spacing, shear, seed):
    count = 40 + seed % 40
    truth = Truth(rotation, (0, shear * spacing, spacing), count)
    jitter = np.random.default_rng(seed).uniform(-0.02, 0.02, (count, 3)) / np.sqrt(3)
    stack = place_frames(shuffled(truth.frames(jitter), seed))
    assert stack.grid is not None, stack.refusal
    assert abs(stack.grid.spacing_mm[2] - np.linalg.norm(truth.step)) < 1e-3
    for index in [(0, 0, 0), (4, 5, 0), (4, 0, count // 2), (4, 5, count - 1)]:
        assert np.linalg.norm(stack.grid.index_to_world(index) - truth.ras(*index)) < 0.05


@pytest.mark.parametrize("tilt", [0.0, 1.1])
def test_positions_rounded_to_a_tenth_are_noise(tilt):
    truth = Truth((12, 20, -33), (0, tilt, 2.43), 40)
    frames = [replace(f, position=tuple(np.round(f.position, 1))) for f in truth.frames()]
    stack = place_frames(frames)
    assert stack.grid is not None, stack.refusal
    assert np.linalg.norm(stack.grid.index_to_world((4, 5, 39)) - truth.ras(4, 5, 39)) < 0.15


def test_directions_with_noise_of_1e_4_are_averaged():
    generator = np.random.default_rng(5)
    truth = Truth((12, 20, -33), (0, 0.4, 2.5), 30)
    frames = [
        replace(f, orientation=tuple(np.array(f.orientation) + generator.uniform(-1e-4, 1e-4, 6)))
        for f in truth.frames()
    ]
    stack = place_frames(frames)
    assert stack.grid is not None
    assert np.linalg.norm(stack.grid.index_to_world((4, 5, 29)) - truth.ras(4, 5, 29)) < 1e-3


def test_thickness_and_names_are_not_trusted():
    frames = [replace(frame, slice_thickness=float(index)) for index, frame in enumerate(axial([0, 2, 4, 6]))]
    grid = place_frames(frames).grid
    assert grid is not None
    assert grid.spacing_mm == pytest.approx((SPACING[1], SPACING[0], 2.0))


@CHECKED
@given(
    st.tuples(ANGLE, ANGLE, ANGLE),
    st.floats(0.3, 9),
    st.floats(-0.6, 0.6),
    st.integers(4, 25),
    st.data(),
)
def test_an_inner_slice_that_is_not_there_is_always_noticed(rotation, spacing, shear, count, data):
    missing = data.draw(st.integers(1, count - 2))
    frames = Truth(rotation, (shear * spacing, 0, spacing), count).frames()
    del frames[missing]
    assert reason(place_frames(frames)) == Reason.MISSING_SLICES


def test_missing_slices_are_named_with_their_place():
    stack = place_frames(axial([0, 2.5, 5, 12.5, 15, 20]))
    assert reason(stack) == Reason.MISSING_SLICES
    assert stack.refusal is not None
    assert "2 between 5.00 and 12.50 mm (7.50 mm apart)" in stack.refusal.text
    assert "1 between 15.00 and 20.00 mm (5.00 mm apart)" in stack.refusal.text
    assert "missing: 3 slices, where the others are 2.500 mm apart" in stack.refusal.text


@pytest.mark.parametrize(
    ("heights", "expected"),
    [
        ([0, 3, 9], Reason.MISSING_SLICES),
        ([0, 1, 2, 3, 4, 6, 8, 10], Reason.MISSING_SLICES),
        ([*range(0, 40, 4), *range(40, 90, 7)], Reason.IRREGULAR_SPACING),
        ([0, 2, 5, 8, 11], Reason.IRREGULAR_SPACING),
        (np.cumsum(np.linspace(2, 2.6, 40)), Reason.IRREGULAR_SPACING),
        (np.cumsum(np.linspace(2, 3.9, 40)), Reason.IRREGULAR_SPACING),
        ([0, 3, 3.001, 6], Reason.REPEATED_POSITIONS),
        ([5, 5, 5, 5], Reason.REPEATED_POSITIONS),
        ([0, 0.03, 0.06], Reason.REPEATED_POSITIONS),
        ([0, 0.2, 0.4, 0.6], None),
        ([0, 0.3, 0.68, 0.9, 1.2], Reason.IRREGULAR_SPACING),
        ([0, 0.3, 0.55, 0.95, 1.2, 1.5], Reason.IRREGULAR_SPACING),
        ([7, 11], None),
    ],
)
def test_steps(heights, expected):
    assert reason(place_frames(axial(heights))) == expected


def test_a_change_of_spacing_is_told():
    stack = place_frames(axial([0, 4, 8, 12, 19, 26, 33]))
    assert stack.refusal is not None
    assert "4.00 mm from 0.00 to 12.00 mm, 7.00 mm from 12.00 to 33.00 mm" in stack.refusal.text


def test_micrometre_voxels_are_slices():
    frames = axial(np.arange(30) * 0.06, pixel_spacing=(0.06, 0.06))
    grid = place_frames(frames).grid
    assert grid is not None
    assert grid.spacing_mm == pytest.approx((0.06, 0.06, 0.06))


def shifted(frames: list[Frame], shift: list[float]) -> list[Frame]:
    return [
        replace(frame, position=(frame.position[0] + by, *frame.position[1:]))
        for frame, by in zip(frames, shift, strict=True)
        if frame.position
    ]


@pytest.mark.parametrize(
    "shift",
    [
        [0] * 5 + [4.0] * 5,
        [0, 4.0] * 5,
        [0] * 9 + [1.0],
        list(np.arange(10) ** 2 / 9),
        list(np.arange(10) * 9.0),
    ],
)
@pytest.mark.parametrize("allow_gaps", [False, True])
def test_a_sideways_drift_that_is_no_tilt_is_refused(shift, allow_gaps):
    frames = shifted(axial(np.arange(10) * 3.0), shift)
    assert reason(place_frames(frames, allow_gaps=allow_gaps)) == Reason.SHIFTED_SLICES


def test_allowed_gaps_keep_every_plane_where_it_was():
    truth = Truth((12, 20, -33), (0, 0.8, 2.5), 12)
    frames = [frame for index, frame in enumerate(truth.frames()) if index not in (3, 7, 8)]
    stack = place_frames(frames, allow_gaps=True)
    assert stack.grid is not None
    assert stack.grid.shape == (*SHAPE, 12)
    assert stack.slices == (0, 1, 2, 4, 5, 6, 9, 10, 11)
    assert np.abs(stack.grid.index_to_world((4, 5, 9)) - truth.ras(4, 5, 9)).max() < 1e-6
    assert len(stack.notes) == 1
    assert stack.notes[0].startswith("3 of 12 slices were made up")
    assert "1 between" in stack.notes[0]


def test_allowed_irregular_steps_keep_every_plane_where_it_was():
    heights = [0, 4, 8, 12, 19, 26, 33]
    stack = place_frames(axial(heights), allow_gaps=True)
    assert stack.grid is not None
    assert stack.grid.spacing_mm[2] == pytest.approx(4, rel=0.05)
    placed = stack.grid.index_to_world([(0, 0, slice_) for slice_ in stack.slices])[:, 2]
    assert placed == pytest.approx(heights)
    assert stack.slices[-1] == stack.grid.shape[2] - 1
    assert "irregular" in stack.notes[0]


def test_a_grid_that_would_be_mostly_made_up_is_refused():
    assert reason(place_frames(axial([0, 1, 50]), allow_gaps=True)) == Reason.MISSING_SLICES
    assert reason(place_frames(axial([0, 1, 50.4, 80]), allow_gaps=True)) == Reason.IRREGULAR_SPACING


def test_one_slice():
    stack = place_frames([make_frame((1, 2, 3))])
    assert stack.grid is not None
    assert stack.grid.spacing_mm == pytest.approx((SPACING[1], SPACING[0], 3.0))
    assert "assumed from SliceThickness" in stack.notes[0]
    unknown = place_frames([make_frame((1, 2, 3), slice_thickness=None)])
    assert reason(unknown) == Reason.NO_SPACING


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"position": None}, Reason.NO_POSITION),
        ({"position": (0.0, float("nan"), 0.0)}, Reason.NO_POSITION),
        ({"orientation": None}, Reason.BAD_ORIENTATION),
        ({"orientation": (0, 0, 0, 0, 1, 0)}, Reason.BAD_ORIENTATION),
        ({"orientation": (1, 0, 0, 0, float("inf"), 0)}, Reason.BAD_ORIENTATION),
        ({"orientation": (1, 0, 0, 0, 0.9, 0.1)}, Reason.BAD_ORIENTATION),
        ({"pixel_spacing": None}, Reason.NO_SPACING),
        ({"pixel_spacing": (0.0, 0.0)}, Reason.NO_SPACING),
        ({"encoding": replace(ENCODING, samples=3, photometric="RGB")}, Reason.COLOUR),
        ({"encoding": replace(ENCODING, photometric="PALETTE COLOR")}, Reason.COLOUR),
    ],
)
def test_a_frame_that_cannot_be_placed_refuses_the_stack_and_is_named(change, expected):
    frames = axial([0, 3, 6, 9])
    frames[2] = replace(frames[2], **change)
    stack = place_frames(frames)
    assert reason(stack) == expected
    assert stack.refusal is not None
    assert expected == Reason.BAD_ORIENTATION or "s002.dcm" in stack.refusal.text


def test_a_skewed_orientation_is_refused():
    assert reason(place_frames(axial([0, 3, 6], orientation=(1, 0, 0, 0.01, 1, 0)))) == Reason.BAD_ORIENTATION


def test_a_mosaic_is_refused():
    frames = with_traits(axial([0, 3, 6]), image_type=("ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"))
    assert reason(place_frames(frames)) == Reason.MOSAIC


def test_slices_of_micro_ct_are_not_one_position():
    heights = [0.035 * index for index in range(9)]
    stack = place_frames(axial(heights, pixel_spacing=(0.035, 0.035)))
    assert stack.refusal is None
    assert stack.grid is not None
    np.testing.assert_allclose(stack.grid.spacing_mm, (0.035, 0.035, 0.035))


def test_a_slice_without_rescale_among_others_is_refused():
    frames = axial([0, 3, 6, 9], intercept=-1024.0)
    frames[2] = replace(frames[2], intercept=0.0, has_rescale=False)
    refusal = place_frames(frames).refusal
    assert refusal is not None
    assert refusal.reason == Reason.INCOMPLETE
    assert "1 of 4" in refusal.text
    assert "s002.dcm" in refusal.text
    assert place_frames(axial([0, 3, 6, 9], has_rescale=False)).refusal is None
    mixed = axial([0, 3], "a") + axial([6, 9], "b", has_rescale=False)
    assert place_frames(mixed).refusal is None, "a slope of 1 and an intercept of 0 change nothing"


def test_gaps_too_wide_to_be_filled_do_not_ask_to_allow_gaps():
    stack = place_frames(axial([0, 3, 6, 300]), allow_gaps=True)
    assert stack.refusal is not None
    assert stack.refusal.reason == Reason.MISSING_SLICES
    assert "too wide" in stack.refusal.text
    assert "allow gaps" not in stack.refusal.text
