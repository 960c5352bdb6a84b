import dataclasses
import os
import pickle
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from volseg.errors import InputError, OutputError
from volseg.io import read_label_map
from volseg.labels import Label, LabelTable
from volseg.preprocess import PREPROCESS
from volseg.train.data import TrainingData, absent_labels
from volseg.train.samples import cache
from volseg.train.samples.cache import build_cache, label_indices
from volseg.train.targets import TargetCode

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
    assert sorted(cached.places) == [1, 2]
    assert (cached.labels[:][tuple(cached.places[2].voxels.T)] == 2).all()


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
    build_cache([dataclasses.replace(case, remap={4: 1})], STEPS, (1, 4), folder)
    assert len(calls) == 3


def test_the_key_of_a_folder_depends_on_the_files_in_it(make_case, tmp_path):
    series = tmp_path / "series" / "inner"
    series.mkdir(parents=True)
    (series / "1.dcm").write_bytes(b"one")
    case = dataclasses.replace(make_case(), images=(tmp_path / "series",))
    first = cache._key(case, STEPS, (1,), cache._file_state)
    assert cache._key(case, STEPS, (1,), cache._file_state) == first
    (series / "2.dcm").write_bytes(b"two")
    assert cache._key(case, STEPS, (1,), cache._file_state) != first


def test_a_case_travels_to_another_process_as_plain_data(make_case, tmp_path):
    cached = build_cache([make_case()], STEPS, (1, 4), tmp_path / "cache")[0]
    travelled = pickle.loads(pickle.dumps(cached))
    assert np.array_equal(travelled.image[:], cached.image[:])
    assert travelled.grid == cached.grid


def test_several_workers_keep_the_order_of_the_cases(make_case, tmp_path):
    cases = [make_case(name) for name in "abcd"]
    built = build_cache(cases, STEPS, (1, 4), tmp_path / "cache", workers=3)
    assert [case.id for case in built] == list("abcd")


def test_a_build_that_fails_leaves_nothing_behind(make_case, tmp_path):
    with pytest.raises(InputError):
        build_cache([make_case()], STEPS, (1,), tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


KILLED = """
import sys, time
from pathlib import Path
from volseg.datasets import Case
from volseg.train.samples import cache
cache._write_blocks_whole = cache._write_blocks
def slowly(path, array):
    cache._write_blocks_whole(path, array)
    if path.name == "labels.b2nd":
        print("written", flush=True)
        time.sleep(60)
cache._write_blocks = slowly
image, label, folder = map(Path, sys.argv[1:])
cache.build_cache([Case("a", (image,), label)], [], (1, 4), folder)
"""


def test_a_killed_build_leaves_nothing_that_is_taken_for_complete(make_case, tmp_path):
    case, folder = make_case(), tmp_path / "cache"
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(case.images[0]), str(case.label), str(folder)],
        stdout=subprocess.PIPE,
    )
    assert process.stdout.readline() == b"written\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    left = list(folder.iterdir())
    assert [path.suffix for path in left] == [".partial"]
    assert build_cache([case], [], (1, 4), folder)[0].image.shape == (1, 9, 12, 7)
    assert left[0].exists(), "it might be of a process that still writes"
    os.utime(left[0], (time.time() - 2 * 86400,) * 2)
    build_cache([case], [], (1, 4), folder)
    assert not left[0].exists()


def test_two_that_build_at_once_get_the_same_complete_case(make_case, tmp_path):
    case, folder = make_case(), tmp_path / "cache"
    with ThreadPoolExecutor(4) as pool:
        built = list(pool.map(lambda _: build_cache([case], STEPS, (1, 4), folder)[0], range(8)))
    assert len(list(folder.iterdir())) == 1
    assert all(np.array_equal(one.image[:], built[0].image[:]) for one in built)


def test_labels_outside_the_table_are_refused(make_case):
    label_map = read_label_map(make_case(values=(1, 4)).label)
    assert label_indices(label_map, (1, 4)).max() == 2
    with pytest.raises(InputError, match=r"a_seg\.nii\.gz: holds the values \[4\].*labels are \[1, 2\]"):
        label_indices(label_map, (1, 2))


def test_a_full_disk_is_told_as_such(make_case, tmp_path, monkeypatch):
    def full(*_args, **_kwargs):
        raise RuntimeError("Error while creating the NDArray")  # all that blosc2 says of it

    monkeypatch.setattr(cache.blosc2, "asarray", full)
    with pytest.raises(OutputError, match=r"case a cannot be kept there .* MB are free"):
        build_cache([make_case()], (), (1, 4), tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_labels_of_which_there_is_nothing_to_learn(make_case, tmp_path):
    cases = build_cache([make_case()], (), (1, 4, 7), tmp_path / "cache")
    labels = LabelTable((Label(1, "a", (1, 1, 1)), Label(4, "b", (1, 1, 1)), Label(7, "c", (1, 1, 1))))
    data = TrainingData(cases, [], TargetCode.of(labels), labels.values)
    assert absent_labels(data, labels) == ["c"]
