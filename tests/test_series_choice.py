"""Which series a model is meant for: each rule, the reasons told, and the refusal to guess."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.dicom_files import SECRETS, SeriesSpec, write_series
from tests.io.dicom.case import part, setting
from volseg.errors import SeriesError
from volseg.io.dicom.index import index_series
from volseg.package import ChannelInfo, ModelInfo
from volseg.series_choice import Choice, choose_series

CT = SeriesSpec(description="abdomen", vendor="siemens")


def another(number: int, **changes: object) -> SeriesSpec:
    """One more series of the study."""
    values = {
        "series_uid": f"1.2.826.0.1.999.1.3{number}",
        "seed": number,
        "series_number": number,
        **changes,
    }
    return replace(CT, **values)


@pytest.fixture
def choose(tmp_path: Path, make_info):
    """Choose among series that are written for it, for a model of one channel."""

    def run(*specs: SeriesSpec, series: str | None = None, **fields: object) -> Choice:
        for number, spec in enumerate(specs):
            write_series(tmp_path / "export" / str(number), spec)
        channel = ChannelInfo(
            name="scan",
            modality=str(fields.pop("modality", "CT")),
            contrast=fields.pop("contrast", None),  # type: ignore[arg-type]
        )
        info: ModelInfo = make_info(channels=[channel], **fields)
        folder = tmp_path / "export"
        return choose_series(index_series(folder), folder, info=info, series=series)

    return run


@pytest.fixture(scope="module")
def make_info():
    def make(**fields: object) -> ModelInfo:
        values = {
            "name": "liver",
            "version": "1",
            "title": "",
            "description": "",
            "architecture": {"name": "unetpp"},
            "preprocess": [],
            "tile": {"tile_voxels": (4, 4, 4)},
            "labels": [{"value": 1, "name": "liver", "colour": (1, 2, 3)}],
            "training": {
                "dataset": "",
                "dataset_licence": "",
                "case_count": 0,
                "case_ids_sha256": "0" * 64,
                "split": "",
                "steps": 0,
            },
            "intended_use": "",
            "limits": "",
            "data_licence": "",
            "volseg_version": "0",
            "git_commit": "0",
        }
        return ModelInfo.model_validate({**values, **fields})

    return make


def reasons(choice: Choice) -> dict[str, str]:
    return {summary.description: why for summary, why in choice.rejected}


def refusal(choose, *specs: SeriesSpec, **fields: object) -> SeriesError:
    with pytest.raises(SeriesError) as caught:
        choose(*specs, **fields)
    assert not [secret for secret in SECRETS if secret in str(caught.value)]
    return caught.value


def test_the_only_volume(choose):
    choice = choose(CT)
    assert choice.summary.series_uid == CT.series_uid
    (line,) = choice.lines()
    assert (
        line
        == "CT 'abdomen' 6 x 5 x 7 at 0.7 x 0.9 x 2.5 mm (....0.1.999.1.1): chosen because it is the only volume"
    )


def test_modality(choose):
    mr = another(1, modality="MR", intercept=0.0, description="head", shape=(6, 5, 30))
    choice = choose(CT, mr)
    assert choice.summary.description == "abdomen"
    assert reasons(choice) == {"head": "its modality is MR and the model's is CT"}
    assert "not taken, its modality is MR" in choice.lines()[1]
    assert choose(modality="MR").summary.description == "head"


def test_no_series_of_the_modality(choose):
    error = refusal(choose, CT, modality="MR")
    assert error.reason == "unsuitable"
    assert "its modality is CT and the model's is MR" in str(error)


def with_agent(agent: str):
    return setting(ContrastBolusAgent=agent)


def test_contrast(choose):
    plain = another(1, description="native", edit=with_agent("NONE"))
    silent = another(2, description="silent")
    agent = another(3, description="portal", edit=with_agent("Ultravist"))
    choice = choose(plain, silent, agent, contrast="with agent")
    assert choice.summary.description == "portal"
    assert reasons(choice) == {
        "native": "its contrast is 'without agent' and the model's is 'with agent'",
        "silent": "its contrast is unknown and another's is 'with agent'",
    }


def test_unknown_contrast_is_taken_where_none_is_known(choose):
    plain = another(1, description="native", edit=with_agent("NONE"))
    assert (
        choose(plain, another(2, description="silent"), contrast="with agent").summary.description == "silent"
    )


def test_field_of_view(choose):
    wide = another(1, description="body", spacing_mm=(9.0, 9.0, 2.5))
    choice = choose(CT, wide, largest_mm=(20, 20, 20))
    assert choice.summary.description == "abdomen"
    assert reasons(choice) == {
        "body": "its field of view is 54 x 45 x 18 mm and the model is for up to 20 x 20 x 20 mm"
    }


def test_a_handful_of_slices_gives_way(choose):
    choice = choose(CT, another(1, description="mip", shape=(6, 5, 3)))
    assert choice.summary.description == "abdomen"
    assert reasons(choice) == {"mip": "it has only 3 slices"}


def test_a_handful_of_slices_is_better_than_nothing(choose):
    assert choose(another(1, shape=(6, 5, 3), description="three")).summary.description == "three"


def test_the_thinnest_reconstruction_of_one_acquisition(choose):
    thin = another(1, description="thin", shape=(6, 5, 18), spacing_mm=(0.7, 0.9, 1.0))
    choice = choose(CT, thin)
    assert choice.summary.description == "thin"
    assert reasons(choice) == {"abdomen": "it is a thicker reconstruction of the same acquisition"}


@pytest.mark.parametrize(
    "edit",
    [
        setting(AcquisitionTime="120000"),
        setting(ConvolutionKernel="B70f"),
        setting(FrameOfReferenceUID="1.2.3"),
        setting(AcquisitionTime=None, AcquisitionDate=None),
    ],
    ids=["time", "kernel", "frame of reference", "silent"],
)
def test_thin_slices_of_something_else_are_no_better(choose, edit):
    thin = another(1, description="thin", shape=(6, 5, 18), spacing_mm=(0.7, 0.9, 1.0), edit=edit)
    error = refusal(choose, CT, thin)
    assert error.reason == "ambiguous"


def test_thin_slices_of_a_part_are_no_better(choose):
    thin = another(1, description="thin", shape=(6, 5, 6), spacing_mm=(0.7, 0.9, 1.0))
    assert refusal(choose, CT, thin).reason == "ambiguous"


def test_two_phases_are_ambiguous(choose):
    first = part(CT, "A", edit=setting(TemporalPositionIdentifier=1))
    error = refusal(choose, first, part(CT, "B", seed=4, edit=setting(TemporalPositionIdentifier=2)))
    assert error.reason == "ambiguous"
    assert f"--series {CT.series_uid}#2" in str(error)
    assert "for the model 'liver'" in str(error)


def test_a_copy_is_no_second_candidate(choose):
    copy = another(1, seed=0, description="sent again")
    choice = choose(CT, copy)
    assert choice.summary.description == "abdomen"
    assert reasons(choice) == {"sent again": "it is a copy of another series"}


def test_a_named_series_is_taken_whatever_it_is(choose):
    mr = another(1, modality="MR", intercept=0.0, description="head")
    choice = choose(CT, mr, series=mr.series_uid)
    assert choice.summary.description == "head"
    assert "it was asked for" in choice.lines()[0]


def hole(spec: SeriesSpec) -> SeriesSpec:
    offsets = [n * 2.5 for n in range(spec.shape[2] + 1) if n != 3]
    return replace(spec, offsets_mm=offsets)


def test_a_refused_series_of_the_same_kind_stops_the_choice(choose):
    small = another(1, description="small", shape=(6, 5, 5))
    assert refusal(choose, hole(CT), small).reason == "missing-slices"


def test_a_refused_series_of_another_kind_does_not(choose):
    other = hole(another(2, modality="MR", intercept=0.0))
    assert choose(other, another(1, description="small", shape=(6, 5, 5))).summary.description == "small"
