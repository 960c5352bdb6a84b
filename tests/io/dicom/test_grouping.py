from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.io.dicom.frames import (
    ENCODING,
    axial,
    content_by_name,
    make_frame,
    names,
    of_modality,
    with_traits,
)
from volseg.io.dicom.distinctions import ACQUISITION_TIME, classify_pauses, seconds
from volseg.io.dicom.frame import Dropped, Frame, Reason, Stack
from volseg.io.dicom.grouping import split_stacks
from volseg.origin import FileRef

CHECKED = settings(max_examples=25, deadline=None)
SEVEN = [0, 3, 6, 9, 12, 15, 18]


def split(
    frames: list[Frame], content: Callable[[Frame], bytes] | None = None
) -> tuple[list[Stack], list[Dropped]]:
    stacks, dropped = split_stacks(frames, content=content or content_by_name())
    assert sum(len(stack.frames) for stack in stacks) + len(dropped) == len(frames)
    return stacks, dropped


def reasons(stacks: list[Stack]) -> list[Reason | None]:
    return [stack.refusal.reason if stack.refusal else None for stack in stacks]


def members(stacks: list[Stack]) -> list[list[str]]:
    return [names(stack.frames) for stack in stacks]


def copied(frames: list[Frame], suffix: str, **changes: object) -> list[Frame]:
    """Copies under new names and UIDs."""
    return [
        replace(
            frame,
            file=FileRef(Path(f"{frame.file.path.stem}{suffix}.dcm")),
            sop_uid=frame.sop_uid + suffix,
            **changes,
        )
        for frame in frames
    ]


def assert_parted(stacks: list[Stack], *groups: list[Frame]) -> None:
    assert reasons(stacks) == [None] * len(groups)
    assert sorted(members(stacks)) == sorted(names(group) for group in groups)


# ---- one volume stays one


def test_one_volume_is_one_stack_without_a_trait():
    frames = axial(SEVEN)
    stacks, dropped = split(frames)
    assert_parted(stacks, frames)
    assert stacks[0].trait == ""
    assert dropped == []


@pytest.mark.parametrize("modality", ["CT", "MR"])
@pytest.mark.parametrize(
    "noise",
    [
        {"acquisition_number": lambda index: index},
        {"acquisition_number": lambda index: 1 + index // 3},
        {"acquisition_number": lambda index: (1, 3, 2, 1, 1, 3, 2)[index]},
        {"acquisition_number": lambda index: index % 4},
        {"acquisition_time": lambda index: f"2020010110{index:02d}00"},
        {"acquisition_time": lambda index: f"2020010110{index // 4 * 20:02d}00"},
        {"content_time": lambda index: f"10{(index * 37) % 60:02d}00"},
        {"kernel": lambda index: ("B30f", "B30s")[index % 2]},
        {"echo_time_ms": lambda index: 4.6 * (1 + 1e-3 * (index % 2))},
        {"echo_time_ms": lambda index: None if index == 2 else 4.6},
        {"trigger_time_ms": lambda index: 31.7 * index},
        {"inversion_time_ms": lambda index: 900.0 + index % 3},
        {"repetition_time_ms": lambda index: 900.0 + 70 * (index % 2)},
        {"temporal_position": lambda index: index},
        {"stack_id": str},
        {"image_type": lambda index: (("ORIGINAL", "DERIVED")[index % 2], "PRIMARY", "AXIAL")},
        {"image_type": lambda index: ("ORIGINAL", "PRIMARY", "M", *("ND", "NORM")[index % 2 :])},
        {"acquisition_number": lambda index: index % 2, "acquisition_time": "100000"},
    ],
)
def test_noise_parts_nothing(noise, modality):
    frames = with_traits(of_modality(axial(SEVEN), modality), **noise)
    assert_parted(split(frames)[0], frames)


def test_noise_of_geometry_parts_nothing():
    generator = np.random.default_rng(3)
    frames = [
        replace(
            frame,
            slice_thickness=float(generator.uniform(1, 5)),
            instance_number=int(generator.integers(9)),
            orientation=tuple(np.array(frame.orientation) + generator.uniform(-1e-4, 1e-4, 6)),
            pixel_spacing=tuple(np.array(frame.pixel_spacing) * (1 + generator.uniform(-1e-4, 1e-4))),
            slope=float(generator.uniform(0.5, 2)),
            frame_of_reference=f"1.9.{index}",
        )
        for index, frame in enumerate(axial(np.arange(40) * 3))
    ]
    assert_parted(split(frames)[0], frames)


def test_mr_excited_in_turns_is_one_volume():
    frames = with_traits(
        of_modality(axial(SEVEN), "MR"),
        acquisition_time=lambda index: f"2020010110{index % 2 * 5:02d}00",
        acquisition_number=lambda index: 1 + index % 2,
    )
    assert_parted(split(frames)[0], frames)
    jitter = np.random.default_rng(2).uniform(-0.02, 0.02, 7)
    noisy = [
        replace(f, position=(*f.position[:2], f.position[2] + by))
        for f, by in zip(frames, jitter, strict=True)
    ]
    assert_parted(split(noisy)[0], noisy)
    del frames[3]
    assert reasons(split(frames)[0]) == [Reason.MISSING_SLICES]


# ---- what means other intensities always parts


@pytest.mark.parametrize(
    ("trait", "values", "texts"),
    [
        ("echo_time_ms", (4.6, 9.2), ["echo time 4.6 ms", "echo time 9.2 ms"]),
        ("echo_number", (1, 2), ["echo number 1", "echo number 2"]),
        ("b_value", (0.0, 1000.0), ["b-value 0", "b-value 1000"]),
        ("temporal_position", (1, 2), ["temporal position 1", "temporal position 2"]),
        ("contrast_phase", ("ARTERIAL", "VENOUS"), ["contrast phase ARTERIAL", "contrast phase VENOUS"]),
        ("stack_id", ("1", "2"), ["stack 1", "stack 2"]),
        (
            "image_type",
            (("DERIVED", "PRIMARY", "FAT"), ("DERIVED", "PRIMARY", "WATER")),
            ["image type FAT", "image type WATER"],
        ),
        (
            "image_type",
            (("ORIGINAL", "PRIMARY", "M", "ND"), ("ORIGINAL", "PRIMARY", "P", "ND")),
            ["image type M", "image type P"],
        ),
    ],
)
@pytest.mark.parametrize("heights", [SEVEN, [1.5, 4.5, 7.5, 10.5], [21, 24, 27]])
def test_strong_traits_part_wherever_the_slices_lie(trait, values, texts, heights):
    first = with_traits(of_modality(axial(SEVEN, "a"), "MR"), **{trait: values[0]})
    second = with_traits(of_modality(axial(heights, "b"), "MR"), **{trait: values[1]})
    stacks, _ = split(first + second)
    assert_parted(stacks, first, second)
    assert [stack.trait for stack in stacks] == texts


def test_slices_with_an_echo_time_each_are_no_volume():
    frames = with_traits(of_modality(axial(SEVEN), "MR"), echo_time_ms=lambda index: 5.0 * (index + 1))
    stacks, _ = split(frames)
    assert reasons(stacks) == [Reason.INTERLEAVED]
    assert stacks[0].refusal is not None
    assert "echo time 5 ms" in stacks[0].refusal.text


def test_echoes_of_one_slice_are_stacks_of_one():
    frames = with_traits(of_modality(axial([7] * 4), "MR"), echo_time_ms=lambda index: 5.0 * (index + 1))
    assert_parted(split(frames)[0], *([frame] for frame in frames))


def test_another_frame_of_reference_is_another_volume():
    first = axial(SEVEN, "a")
    second = axial([21, 24, 27], "b", frame_of_reference="1.77")
    assert_parted(split(first + second)[0], first, second)


# ---- planes at one position


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"inversion_time_ms": (150.0, 900.0)}, "inversion time 900 ms"),
        ({"trigger_time_ms": (30.0, 90.0)}, "trigger time 90 ms"),
        ({"cardiac_phase_percent": (40.0, 75.0)}, "cardiac phase 75 %"),
        ({"flip_angle": (5.0, 20.0)}, "flip angle 20 degrees"),
        ({"gradient": ((0.0, 0.0, 1.0), (0.6, 0.8, 0.0))}, "gradient direction 2 of 2"),
        ({"acquisition_number": (1, 2)}, "acquisition number 2"),
        ({"acquisition_time": ("20200101100000", "20200101100100")}, "acquisition time 2 of 2"),
        ({"kernel": ("B30f", "B70f")}, "kernel B70f"),
        ({"content_time": ("100000", "100100")}, "content time 2 of 2"),
        (
            {"image_type": (("ORIGINAL", "PRIMARY", "AXIAL"), ("DERIVED", "PRIMARY", "AXIAL"))},
            "full image type ORIGINAL\\PRIMARY\\AXIAL",
        ),
        ({"b_value": (None, 1000.0)}, "b-value 1000"),
    ],
)
def test_planes_at_one_position_are_told_apart(values, text):
    (key, (one, other)) = next(iter(values.items()))
    first = with_traits(axial(SEVEN, "a"), **{key: one})
    second = with_traits(axial(SEVEN, "b"), **{key: other})
    stacks, dropped = split(first + second)
    assert_parted(stacks, first, second)
    assert text in [stack.trait for stack in stacks]
    assert dropped == []


@CHECKED
@given(st.randoms(use_true_random=False), st.sampled_from([0.0, 1.5]), st.booleans())
def test_two_phases_never_end_in_one_stack(random, offset, has_times):
    first = with_traits(
        axial(SEVEN, "a"), acquisition_number=1, acquisition_time="100000" if has_times else None
    )
    second = with_traits(
        axial(np.add(SEVEN, offset), "b"),
        acquisition_number=2,
        acquisition_time="100100" if has_times else None,
    )
    frames = first + second
    random.shuffle(frames)
    assert_parted(split(frames)[0], first, second)


def test_directions_with_averages_need_two_traits():
    volumes = [
        with_traits(
            of_modality(axial(SEVEN[:4], f"g{direction}n{average}"), "MR"),
            b_value=1000.0,
            gradient=(float(direction == 0), float(direction == 1), float(direction == 2)),
            acquisition_number=average,
        )
        for direction in range(3)
        for average in range(2)
    ]
    weighted = [frame for volume in volumes for frame in volume]
    plain = with_traits(of_modality(axial(SEVEN[:4], "b0"), "MR"), b_value=0.0)
    stacks, _ = split(weighted + plain)
    assert_parted(stacks, *volumes, plain)
    assert "b-value 1000, gradient direction 1 of 3, acquisition number 0" in [s.trait for s in stacks]


def test_a_trait_that_takes_every_second_slice_is_not_chosen():
    """Two phases, each excited in two turns: four times, of which two make a volume."""
    frames = []
    for phase, prefix in enumerate("ab"):
        frames += with_traits(
            of_modality(axial(SEVEN, prefix), "MR"),
            acquisition_time=lambda index, phase=phase: f"20200101100{2 * phase + index % 2}00",
        )
    stacks, _ = split(frames)
    assert_parted(stacks, frames[:7], frames[7:])
    assert [stack.trait for stack in stacks] == ["acquisition time 1 of 2", "acquisition time 2 of 2"]


def test_times_that_differ_from_slice_to_slice_rank_the_phases():
    frames = []
    for phase, prefix in enumerate("abc"):
        frames += with_traits(
            axial(SEVEN, prefix), acquisition_time=lambda index, phase=phase: f"1000{10 * phase + index:02d}"
        )
    assert_parted(split(frames)[0], frames[:7], frames[7:14], frames[14:])


def test_ranks_go_before_blocks():
    """Two phases, each in two breath holds with a time of its own."""
    frames = []
    for phase, prefix in enumerate("ab"):
        frames += with_traits(
            axial(SEVEN, prefix),
            acquisition_time=lambda index, phase=phase: f"10{10 * phase + index // 4:02d}00",
        )
    assert_parted(split(frames)[0], frames[:7], frames[7:])


def test_two_traits_go_before_blocks():
    frames = []
    numbers = iter([5, 1, 3, 8, 2, 6, 4, 7])
    for inversion, flip in [(100.0, 5.0), (100.0, 20.0), (900.0, 5.0), (900.0, 20.0)]:
        blocks = [next(numbers), next(numbers)]
        frames += with_traits(
            axial(SEVEN, f"i{inversion:.0f}f{flip:.0f}"),
            inversion_time_ms=inversion,
            flip_angle=flip,
            acquisition_number=lambda index, blocks=blocks: blocks[index // 4],
        )
    assert_parted(split(frames)[0], *(frames[start : start + 7] for start in (0, 7, 14, 21)))


def test_a_trait_that_makes_irregular_volumes_is_not_chosen():
    first = with_traits(
        axial([0, 3, 6, 9, 12], "a"),
        acquisition_number=1,
        trigger_time_ms=lambda index: (1.0, 9.0, 1.0, 1.0, 1.0)[index],
    )
    second = with_traits(
        axial([9, 12, 15, 18, 21], "b"),
        acquisition_number=2,
        trigger_time_ms=lambda index: (9.0, 9.0, 1.0, 9.0, 1.0)[index],
    )
    assert_parted(split(first + second)[0], first, second)


def test_a_pause_is_long_beside_the_usual_step():
    frames = with_traits(
        axial(SEVEN), acquisition_time=lambda index: f"10{(0, 2, 5, 7, 1, 6, 4)[index]:02d}00"
    )
    assert_parted(split(frames)[0], frames)
    times = ("100000", "100003", "100007", "100012", "110000", "110004", "110007")
    pauses = classify_pauses(
        with_traits(frames, acquisition_time=lambda index: times[index]), ACQUISITION_TIME
    )
    assert pauses is not None
    assert pauses.classes.tolist() == [0, 0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        ("101530", 36930.0),
        ("10:15:30", 36930.0),
        ("101530.25", 36930.25),
        ("00010101101530.25", 86400 + 36930.25),
        ("20200101101530.5+0100", 737425 * 86400 + 36930.5),
        ("20200101", None),
        ("20209901101530", None),
        ("None", None),
    ],
)
def test_moments(moment, expected):
    assert seconds(moment) == expected


def test_times_that_overlap_rank_nothing():
    first = with_traits(axial(SEVEN, "a"), acquisition_time=lambda index: f"1000{4 * index:02d}")
    second = with_traits(axial(SEVEN, "b"), acquisition_time=lambda index: f"1000{4 * index + 1:02d}")
    stacks, _ = split(first + second)
    assert reasons(stacks) == [Reason.REPEATED_POSITIONS]
    assert stacks[0].refusal is not None
    assert "7 of 7 positions" in stacks[0].refusal.text
    assert "2 at [-31.0, 17.5, 0.0]" in stacks[0].refusal.text


def test_a_phase_with_a_missing_slice_is_refused_alone():
    first = with_traits(axial(SEVEN, "a"), acquisition_number=1)
    second = with_traits(axial([0, 3, 9, 12, 15, 18], "b"), acquisition_number=2)
    stacks, _ = split(first + second)
    assert reasons(stacks) == [None, Reason.MISSING_SLICES]


def test_two_reconstructions_with_other_spacings():
    first = with_traits(axial(np.arange(0, 20, 2.5), "a"), kernel="soft")
    second = with_traits(axial(np.arange(0, 20, 5), "b"), kernel="sharp")
    assert_parted(split(first + second)[0], first, second)


def test_stations_that_overlap_are_volumes_of_their_own():
    stations = [
        with_traits(
            axial(np.arange(start, start + 50, 5), name), acquisition_number=number, acquisition_time=time
        )
        for start, name, number, time in [
            (0, "a", 1, "100000"),
            (30, "b", 2, "100100"),
            (60, "c", 3, "100200"),
        ]
    ]
    assert_parted(split([frame for station in stations for frame in station])[0], *stations)


def test_one_phase_of_three_between_the_others():
    phases = [
        with_traits(axial(np.add(SEVEN, offset), name), acquisition_number=number)
        for offset, name, number in [(0, "a", 1), (0, "b", 2), (1.5, "c", 3)]
    ]
    frames = [frame for phase in phases for frame in phase]
    assert_parted(split(frames)[0], *phases)
    assert reasons(split(of_modality(frames, "MR"))[0]) == [Reason.REPEATED_POSITIONS]


# ---- slices between each other's


@pytest.mark.parametrize(
    "traits",
    [
        [{"acquisition_number": 1}, {"acquisition_number": 2}],
        [{"acquisition_time": "20200101100000"}, {"acquisition_time": "20200101100100"}],
        [
            {"acquisition_time": lambda index: f"10000{index}"},
            {"acquisition_time": lambda index: f"10010{index}"},
        ],
        [{"cardiac_phase_percent": 40.0}, {"cardiac_phase_percent": 75.0}],
        [{"content_time": "100000"}, {"content_time": "100900"}],
    ],
)
def test_ct_phases_between_each_other_are_parted(traits):
    arterial = with_traits(axial([0, 5, 10], "a"), **traits[0])
    venous = with_traits(axial([2.5, 7.5], "b"), **traits[1])
    assert_parted(split(arterial + venous)[0], arterial, venous)


def test_overlapping_stations_off_each_other_s_steps():
    first = with_traits(axial(np.arange(0, 50, 5), "a"), acquisition_number=1)
    for offset in (2.5, 1.0):
        second = with_traits(axial(np.arange(30, 80, 5) + offset, "b"), acquisition_number=2)
        assert_parted(split(first + second)[0], first, second)


def test_mr_stations_that_are_irregular_together():
    first = with_traits(of_modality(axial(np.arange(0, 50, 5), "a"), "MR"), acquisition_number=1)
    second = with_traits(of_modality(axial(np.arange(31, 80, 5), "b"), "MR"), acquisition_number=2)
    assert_parted(split(first + second)[0], first, second)


def test_interleaved_acquisitions_that_are_irregular_are_refused():
    venous = (1, 2, 4, 8)
    frames = with_traits(
        axial(np.arange(12) * 2.5),
        acquisition_number=lambda index: 1 + (index in venous),
        acquisition_time=lambda index: "101500" if index in venous else "100000",
    )
    assert reasons(split(frames)[0]) == [Reason.INTERLEAVED]


@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_joined_series_are_one_volume_unless_they_interleave(modality):
    frames = of_modality(axial(SEVEN), modality)
    later = replace(frames[0].series, series_uid="1.2.4")

    def sent_under_two(indices: set[int]) -> list[Frame]:
        return [replace(f, series=later) if i in indices else f for i, f in enumerate(frames)]

    for indices in ({4, 5, 6}, {2, 6}):
        assert_parted(split(sent_under_two(indices))[0], frames)
    assert_parted(split(sent_under_two({1, 3, 5}))[0], frames[::2], frames[1::2])


def test_a_change_of_spacing_is_not_hidden_by_acquisitions():
    frames = with_traits(axial([0, 4, 8, 12, 19, 26, 33]), acquisition_number=lambda index: 1 + (index > 3))
    assert reasons(split(frames)[0]) == [Reason.IRREGULAR_SPACING]
    stacks, _ = split_stacks(frames, content=content_by_name(), allow_gaps=True)
    assert reasons(stacks) == [None]
    assert stacks[0].notes


# ---- copies


def test_one_instance_in_two_files_is_used_once():
    frames = axial(SEVEN)
    again = [replace(frame, file=FileRef(Path("b") / frame.file.path)) for frame in frames]
    stacks, dropped = split(frames + again)
    assert_parted(stacks, frames)
    assert {drop.reason for drop in dropped} == {Reason.DUPLICATE}
    assert "s000.dcm" in dropped[0].text


@pytest.mark.parametrize(("change", "content"), [({"position": (0.0, 0.0, 99.0)}, "s003"), ({}, "odd")])
def test_one_instance_with_two_contents_is_refused(change, content):
    frames = axial(SEVEN)
    odd = replace(frames[3], file=FileRef(Path("odd.dcm")), **change)
    stacks, dropped = split([*frames, odd], content_by_name(odd=content))
    assert reasons(stacks) == [Reason.CORRUPT]
    assert stacks[0].refusal is not None
    assert "odd.dcm" in stacks[0].refusal.text
    assert dropped == []


def test_copies_under_new_uids_are_dropped():
    frames = axial(SEVEN)
    again = copied(frames[2:5], "x")
    content = content_by_name(s002x="s002", s003x="s003", s004x="s004")
    stacks, dropped = split([*again, *frames], content)
    assert_parted(stacks, frames)
    assert [drop.reason for drop in dropped] == [Reason.DUPLICATE] * 3


def test_copies_inside_a_phase_are_dropped():
    first = with_traits(axial(SEVEN, "a"), acquisition_number=1)
    second = with_traits(axial(SEVEN, "b"), acquisition_number=2)
    again = copied([first[5]], "x")
    stacks, dropped = split(first + second + again, content_by_name(a005x="a005"))
    assert_parted(stacks, first, second)
    assert [str(drop.file) for drop in dropped] == ["a005x.dcm"]


def test_pixels_are_read_only_where_positions_repeat():
    asked: list[str] = []

    def content(frame: Frame) -> bytes:
        asked.append(frame.file.path.stem)
        return frame.file.path.stem.encode()

    frames = axial(SEVEN)
    split(frames, content)
    assert asked == []
    split([*frames, *copied(frames[3:4], "x")], content)
    assert sorted(asked) == ["s003", "s003x"]
    asked.clear()
    phases = with_traits(frames, acquisition_number=1) + with_traits(
        copied(frames, "x"), acquisition_number=2
    )
    split(phases, lambda frame: b"blank" if "s000" in frame.sop_uid else content(frame))
    assert sorted(asked) == ["s003", "s003x"]
    asked.clear()
    split(
        [*with_traits(frames, temporal_position=1), *with_traits(copied(frames, "x"), temporal_position=2)],
        content,
    )
    assert asked == []


def test_different_pictures_at_one_position_are_refused():
    frames = axial(SEVEN)
    stacks, dropped = split([*frames, *copied(frames[3:4], "x")])
    assert reasons(stacks) == [Reason.REPEATED_POSITIONS]
    assert dropped == []


# ---- what is set aside


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"rows": 99}, Reason.OTHER_MATRIX),
        ({"orientation": (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)}, Reason.OTHER_ORIENTATION),
        ({"orientation": (1.0, 0.0, 0.0, 0.0, 0.99999, 0.0045)}, Reason.OTHER_ORIENTATION),
        ({"pixel_spacing": (0.9, 0.71)}, Reason.OTHER_SPACING),
        ({"encoding": replace(ENCODING, samples=3, photometric="RGB"), "position": None}, Reason.SCREENSHOT),
    ],
)
def test_a_frame_unlike_the_others_is_set_aside(change, expected):
    frames = axial(SEVEN)
    stacks, dropped = split([replace(make_frame((0, 0, 21), "odd"), **change), *frames])
    assert_parted(stacks, frames)
    assert [(str(drop.file), drop.reason) for drop in dropped] == [("odd.dcm", expected)]


def test_scouts_are_set_aside():
    frames = axial(SEVEN)
    scouts = with_traits(axial([30, 33, 36], "x", rows=99), image_type=("ORIGINAL", "PRIMARY", "LOCALIZER"))
    stacks, dropped = split([*scouts, *frames])
    assert_parted(stacks, frames)
    assert {drop.reason for drop in dropped} == {Reason.SCOUT}
    assert len(dropped) == 3


def test_larger_groups_are_stacks_of_their_own():
    frames = axial(SEVEN, "a")
    coronal = axial([40] * 4, "b", orientation=(1.0, 0.0, 0.0, 0.0, 0.0, -1.0))
    coronal = [replace(f, position=(0.0, 5.0 * i, 0.0)) for i, f in enumerate(coronal)]
    fine = axial(SEVEN[:5], "c", rows=12)
    stacks, dropped = split([*fine, *coronal, *frames])
    assert_parted(stacks, frames, coronal, fine)
    assert [stack.trait for stack in stacks] == [
        "5 x 6 pixels, axial",
        "5 x 6 pixels, coronal",
        "5 x 12 pixels",
    ]
    assert dropped == []


def test_a_radial_set_is_refused_as_one():
    frames = [
        make_frame((0, 0, 0), f"r{angle}", orientation=(np.cos(turn), np.sin(turn), 0.0, 0.0, 0.0, -1.0))
        for angle in range(0, 180, 15)
        for turn in [np.radians(angle)]
    ]
    stacks, _ = split(frames)
    assert reasons(stacks) == [Reason.BAD_ORIENTATION]
    assert stacks[0].refusal is not None
    assert "12 orientations" in stacks[0].refusal.text


# ---- what refuses


def test_one_frame_without_position_refuses_all():
    frames = axial(SEVEN)
    frames[3] = replace(frames[3], position=None, orientation=None)
    stacks, dropped = split(frames)
    assert reasons(stacks) == [Reason.NO_POSITION]
    assert stacks[0].refusal is not None
    assert "s003.dcm" in stacks[0].refusal.text
    assert dropped == []


def test_frames_without_any_position_are_one_refused_stack():
    stacks, _ = split([make_frame(None, f"n{index}") for index in range(5)])
    assert reasons(stacks) == [Reason.NO_POSITION]


@pytest.mark.parametrize("total", [3, None])
def test_a_concatenation_without_a_part_is_refused(total):
    def part(number: int) -> list[Frame]:
        return [
            replace(
                frame,
                sop_uid=f"1.{number}",
                number=index,
                file_frames=3,
                concatenation=("1.7", number, total),
            )
            for index, frame in enumerate(axial(np.arange(3) * 2.0 + 6 * number, f"p{number}"))
        ]

    assert reasons(split(part(1) + part(2) + part(3))[0]) == [None]
    assert reasons(split(part(1) + part(3))[0]) == [Reason.INCOMPLETE]


def test_4d_frames_of_one_file_are_parted():
    volume = axial(SEVEN)
    frames = [
        replace(
            frame, sop_uid="1.5", number=7 * time + index, file=FileRef(Path("m.dcm")), file_frames=21,
            traits=replace(frame.traits, temporal_position=time + 1),
        )
        for time in range(3)
        for index, frame in enumerate(volume)
    ]  # fmt: skip
    stacks, _ = split(frames)
    assert reasons(stacks) == [None] * 3
    assert [[frame.number for frame in stack.frames] for stack in stacks] == [
        list(range(start, start + 7)) for start in (0, 7, 14)
    ]


# ---- the result does not depend on what says nothing


def everything() -> list[Frame]:
    generator = np.random.default_rng(1)
    phases = with_traits(axial(SEVEN, "a"), acquisition_number=1) + with_traits(
        axial(SEVEN, "b"), acquisition_number=2
    )
    fine = axial(np.arange(5) * 2.0, "c", rows=12)
    fine += copied(fine[:2], "x")
    odd = [make_frame((0, 0, 0), "odd", columns=77)]
    noisy = [
        replace(f, orientation=tuple(np.array(f.orientation) + generator.uniform(-1e-4, 1e-4, 6)))
        for f in phases
    ]
    return [*noisy, *fine, *odd]


@CHECKED
@given(st.randoms(use_true_random=False))
def test_order_names_and_instance_numbers_do_not_matter(random):
    def content(frame: Frame) -> bytes:
        return frame.sop_uid.removesuffix("x").encode()

    def outcome(frames: list[Frame]) -> object:
        stacks, dropped = split(frames, content)
        shown = [(s.trait, names(s.frames), s.slices, s.grid.affine.tolist()) for s in stacks if s.grid]
        return shown, sorted(drop.reason for drop in dropped), reasons(stacks)

    frames = everything()
    expected = outcome(frames)
    random.shuffle(frames)
    renamed = [
        replace(frame, file=FileRef(Path(f"{random.random()}")), instance_number=random.randint(0, 99))
        for frame in frames
    ]
    assert outcome(renamed) == expected


# ---- what has a place and is no slice, and what only thick slices tell


def test_secondary_captures_among_slices_are_set_aside():
    capture = make_frame((-31.0, 17.5, 21.0), "shot", sop_class="1.2.840.10008.5.1.4.1.1.7")
    stacks, dropped = split([*axial(SEVEN), capture])
    assert_parted(stacks, axial(SEVEN))
    assert [item.reason for item in dropped] == [Reason.SCREENSHOT]
    captures = axial(SEVEN, sop_class="1.2.840.10008.5.1.4.1.1.7")
    assert_parted(split(captures)[0], captures)


def test_kinds_of_objects_have_names():
    frames = axial(SEVEN) + axial(SEVEN, "m", sop_class="1.2.840.10008.5.1.4.1.1.4")
    assert {stack.trait for stack in split(frames)[0]} == {"CT CT Image Storage", "CT MR Image Storage"}


def test_phases_between_each_other_known_by_their_contrast_agent_alone():
    plain = axial([0, 5, 10, 15, 20], "a")
    contrast = [
        replace(frame, series=replace(frame.series, contrast_agent="Iohexol"))
        for frame in axial([2.5, 7.5, 12.5, 17.5, 22.5], "b")
    ]
    assert_parted(split([*plain, *contrast])[0], plain, contrast)


def test_mr_slices_too_thick_for_turns_are_volumes_of_their_own():
    phases = [
        of_modality(axial(heights, prefix, slice_thickness=5.0), "MR")
        for prefix, heights in (("a", [0, 5, 10, 15]), ("b", [2.5, 7.5, 12.5, 17.5]))
    ]
    frames = [
        frame
        for number, phase in enumerate(phases)
        for frame in with_traits(phase, acquisition_number=number + 1)
    ]
    assert_parted(split(frames)[0], *phases)
    thin = [replace(frame, slice_thickness=2.5) for frame in frames]
    assert reasons(split(thin)[0]) == [None], "turns"


@pytest.mark.parametrize("trait", ["flip_angle", "inversion_time_ms"])
def test_mr_slices_of_two_contrasts_between_each_other_are_parted(trait: str):
    first = with_traits(of_modality(axial([0, 6, 12, 18], "a"), "MR"), **{trait: 5.0})
    second = with_traits(of_modality(axial([3, 9, 15, 21], "b"), "MR"), **{trait: 15.0})
    assert_parted(split([*first, *second])[0], first, second)
