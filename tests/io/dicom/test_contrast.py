"""What a series shows bright, told by its times, and left empty when unsure."""

from dataclasses import replace
from pathlib import Path

import pytest

from volseg.io.dicom.contrast import contrast_of
from volseg.io.dicom.frame import Encoding, Frame, SeriesText, Traits
from volseg.origin import FileRef


def make_frame(modality: str, traits: Traits | None = None, agent: str = "") -> Frame:
    text = SeriesText("", "1", "1.1", modality, "", "", "", "1", agent, "")
    encoding = Encoding(
        "1.2.840.10008.1.2.1", 16, 12, 11, is_signed=False, samples=1, photometric="MONOCHROME2"
    )
    return Frame(
        file=FileRef(Path("a")),
        number=0,
        sop_uid="1",
        sop_class="",
        series=text,
        frame_of_reference="",
        instance_number=None,
        rows=5,
        columns=6,
        position=None,
        orientation=None,
        pixel_spacing=None,
        slice_thickness=None,
        traits=traits or Traits(),
        encoding=encoding,
        slope=1.0,
        intercept=0.0,
    )


def mr(sequence: str, echo: float | None, repetition: float | None, **more: float) -> Traits:
    return Traits(
        scanning_sequence=sequence,
        echo_time_ms=echo,
        repetition_time_ms=repetition,
        **more,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    ("traits", "expected"),
    [
        (mr("SE", 12, 550), "T1"),
        (mr("SE", 95, 4200), "T2"),
        (mr("SE", 20, 2800), "PD"),
        (mr("SE", 45, 2800), ""),
        (mr("SE", 20, 1200), ""),
        (mr("SE\\IR", 120, 9000, inversion_time_ms=2500), "FLAIR"),
        (mr("SE IR", 390, 5000, inversion_time_ms=1650), "FLAIR"),
        (mr("GR\\IR", 3.0, 2300, inversion_time_ms=900), "T1"),
        (mr("IR", 50, 4000, inversion_time_ms=150), ""),
        (mr("IR", 60, 4000), ""),
        (mr("GR", 2.1, 4.2, flip_angle=12), "T1"),
        (mr("GR", 4.6, 180, flip_angle=70), "T1"),
        (mr("GR", 2.1, 4.2, flip_angle=50), ""),
        (mr("GR", 20, 700, flip_angle=20), ""),
        (mr("EP", 30, 2000), ""),
        (mr("EP", 70, 5000, b_value=0), ""),
        (mr("EP\\SE", 70, 5000, b_value=800), "DWI"),
        (mr("", 90, 4000), ""),
        (mr("SE", None, 4000), ""),
        (mr("SE", 90, None), ""),
        (Traits(), ""),
    ],
)
def test_weighting_of_mr(traits: Traits, expected: str):
    assert contrast_of([make_frame("MR", traits)]) == expected


def test_one_frame_with_a_b_value_makes_it_diffusion():
    traits = mr("EP", 70, 5000, b_value=0)
    assert contrast_of([make_frame("MR", traits), make_frame("MR", replace(traits, b_value=1000))]) == "DWI"


@pytest.mark.parametrize(
    ("agent", "expected"),
    [
        ("", ""),
        (" ", ""),
        ("Ultravist 370", "with agent"),
        ("NONE", "without agent"),
        ("ohne", "without agent"),
    ],
)
def test_agent_in_ct(agent: str, expected: str):
    assert contrast_of([make_frame("CT", mr("SE", 90, 4000), agent)]) == expected


def test_other_modalities_have_none():
    assert contrast_of([make_frame("PT", mr("SE", 90, 4000), "FDG")]) == ""
