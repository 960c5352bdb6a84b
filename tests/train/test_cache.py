import numpy as np
import pytest

from volseg.errors import GeometryError, InputError
from volseg.io import read_label_map
from volseg.preprocess import PREPROCESS
from volseg.train import cache
from volseg.train.cache import build_cache, label_indices, read_case

STEPS = [PREPROCESS.build({"name": "orient", "codes": "RAS"}), PREPROCESS.build({"name": "zscore"})]


def test_cached_labels_lie_on_the_model_grid_as_indices(make_case, tmp_path):
    case = make_case(values=(1, 4))
    cached = build_cache([case], STEPS, (1, 4), tmp_path / "cache")[0]
    source = read_label_map(case.label)
    assert cached.grid.axis_codes == "RAS"
    assert source.grid.axis_codes != "RAS"
    assert cached.image.shape == (1, *cached.shape)
    for index, value in ((1, 1), (2, 4)):
        at_source = source.grid.index_to_world(np.argwhere(source.array == value))
        at_cache = cached.grid.index_to_world(np.argwhere(cached.labels[:] == index))
        assert np.allclose(np.sort(at_source, axis=0), np.sort(at_cache, axis=0), atol=1e-3)
    assert sorted(cached.centres) == [1, 2]
    voxels = cached.centres[2]
    assert (cached.labels[:][tuple(voxels.T)] == 2).all()


def test_what_is_cached_is_not_computed_again_until_file_or_steps_change(make_case, tmp_path, monkeypatch):
    case = make_case()
    folder = tmp_path / "cache"
    first = build_cache([case], STEPS, (1, 4), folder)[0]
    calls = []
    original = cache.read_case
    monkeypatch.setattr(cache, "read_case", lambda case: calls.append(case) or original(case))
    again = build_cache([case], STEPS, (1, 4), folder)[0]
    assert not calls
    assert np.array_equal(first.image[:], again.image[:])
    build_cache([case], STEPS[:1], (1, 4), folder)
    assert len(calls) == 1
    case.images[0].touch()
    build_cache([case], STEPS, (1, 4), folder)
    assert len(calls) == 2


def test_a_half_written_case_is_made_again(make_case, tmp_path):
    folder = tmp_path / "cache"
    case = make_case()
    build_cache([case], STEPS, (1, 4), folder)
    next(folder.glob("*.json")).unlink()  # written last
    next(folder.glob("*.image.b2nd")).write_bytes(b"half")
    assert build_cache([case], STEPS, (1, 4), folder)[0].image[:].std() == pytest.approx(1, abs=0.01)


def test_labels_outside_the_table_are_refused(make_case):
    label_map = read_label_map(make_case(values=(1, 4)).label)
    assert label_indices(label_map, (1, 4)).max() == 2
    with pytest.raises(InputError, match=r"a_seg\.nii\.gz: holds the values \[4\].*labels are \[1, 2\]"):
        label_indices(label_map, (1, 2))


def test_a_case_without_labels_or_with_labels_elsewhere_is_refused(make_case):
    with pytest.raises(InputError, match="case a has no label map"):
        read_case(make_case(label=False))
    with pytest.raises(GeometryError, match=r"a\.nii\.gz and .*a_seg\.nii\.gz are 3\.00 mm apart"):
        read_case(make_case(shift_mm=3.0))
