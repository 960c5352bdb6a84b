import numpy as np
import pytest

from tests.locate.heads import SAMPLES, read_template
from volseg.errors import GeometryError, PackageError
from volseg.locate.template import TISSUES, Template, decode_template, encode_template


def test_it_is_small_says_whose_it_is_and_is_written_the_same_again(template):
    data = (SAMPLES / "mni152_t1_3mm.safetensors").read_bytes()
    assert len(data) <= 300_000
    assert "Copyright (C) 1993-2009 Louis Collins, McConnell Brain Imaging Centre" in template.notice
    assert "without fee" in template.notice
    assert encode_template(template) == data


def test_it_is_symmetric_about_the_middle_of_its_space(template):
    assert np.array_equal(template.array, template.array[::-1])
    first, last = template.grid.corners()[[0, -1]]
    assert first[0] == -last[0]


def test_tissues_rise_in_brightness_and_lie_where_they_belong(template):
    medians = [np.median(template.array[tuple(template.tissues[tissue].T)]) for tissue in TISSUES]
    assert medians[0] + 40 < medians[1] < medians[2] - 40
    points = template.tissue_points("white")
    assert np.abs(points[:, 0]).max() < 70
    assert np.isclose(points[:, 0].mean(), 0, atol=1)


def test_damage_is_a_package_error(template):
    data = encode_template(template)
    for broken in (b"", data[:100], data[:-5], b"\x80\x04" + data):
        with pytest.raises(PackageError, match="template is not usable"):
            decode_template(broken, "x.volseg")


def test_parts_that_do_not_fit_are_refused(template):
    fields = {"array": template.array, "grid": template.grid, "tissues": template.tissues, "notice": ""}
    for wrong in (
        {"array": template.array[1:]},
        {"array": template.array.astype(np.float32)},
        {"array": np.zeros_like(template.array)},
        {"tissues": {**template.tissues, "white": np.full((20, 3), 200, np.uint8)}},
        {"tissues": {"white": template.tissues["white"], "grey": template.tissues["grey"]}},
    ):
        with pytest.raises(GeometryError, match="template"):
            Template(**{**fields, **wrong})
    assert read_template().grid == template.grid
