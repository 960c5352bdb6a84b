import hashlib
import json
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from safetensors.numpy import save

from volseg.errors import OutputError, PackageError
from volseg.geometry import Grid
from volseg.labels import ChannelRule, Code, LabelRegion
from volseg.package import (
    FORMAT,
    ChannelInfo,
    CodeInfo,
    GoldenCase,
    LabelInfo,
    ModelInfo,
    ScoreInfo,
    TileInfo,
    TrainingInfo,
    load_package,
    write_package,
)
from volseg.package import archive as archive_module
from volseg.volume import Volume

AFFINE = np.array([[-0.7, 0.2, 0.1, 31], [0.1, 0.9, -0.3, -17], [0, 0.1, 2.5, 88], [0, 0, 0, 1]])


@pytest.fixture
def info():
    return ModelInfo(
        name="liver",
        version="1.2",
        title="Leber",
        description="Größe.",
        architecture={"name": "unetpp", "widths": [8, 16]},
        channels=[ChannelInfo(name="CT", modality="CT")],
        preprocess=[{"name": "window", "low": -100, "high": 300}],
        tile=TileInfo(tile_voxels=(40, 56, 48)),
        labels=[
            LabelInfo(value=2, name="lesion", colour=(255, 0, 0)),
            LabelInfo(
                value=1,
                name="liver",
                colour=(0, 9, 99),
                code=CodeInfo(scheme="SCT", value="10200004", meaning="Liver"),
            ),
        ],
        training=TrainingInfo(
            dataset="LiTS",
            dataset_licence="x",
            case_count=3,
            case_ids_sha256="ab" * 32,
            split="fixed",
            steps=10,
        ),
        scores=[ScoreInfo(label="liver", cases="held out", case_count=2, means={"dice": 0.9})],
        intended_use="Research.",
        limits="Adults.",
        data_licence="CC-BY-SA-4.0",
        volseg_version="0.1.0",
        git_commit="abc",
    )


@pytest.fixture
def weights():
    generator = np.random.default_rng(1)
    return {
        "b.weight": generator.normal(size=(3, 2, 1)).astype(np.float16),
        "a.bias": generator.normal(size=5).astype(np.float32),
        "count": np.array(7, dtype=np.int64),
    }


@pytest.fixture
def golden():
    labels = np.arange(210, dtype=np.uint8).reshape(5, 6, 7) % 3
    return GoldenCase(
        Volume(np.arange(210, dtype=np.int16).reshape(5, 6, 7), Grid((5, 6, 7), AFFINE)), labels
    )


@pytest.fixture
def path(tmp_path, info, weights, golden):
    path = tmp_path / "liver.volseg"
    write_package(path, info=info, weights=weights, card="# Liver\n", golden=golden)
    return path


def members_of(path):
    with zipfile.ZipFile(path) as file:
        return {name: file.read(name) for name in file.namelist()}


def rewrite(path, members, *, sums=True, compression=zipfile.ZIP_STORED):
    """A package with these members and, unless told otherwise, checksums that fit them."""
    members = {name: data for name, data in members.items() if not sums or name != "SHA256SUMS"}
    if sums:
        lines = [f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in members.items()]
        members["SHA256SUMS"] = "".join(lines).encode()
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, data in members.items():
            file.writestr(name, data)


def with_json(path, change):
    members = members_of(path)
    fields = json.loads(members["model.json"])
    change(fields)
    rewrite(path, {**members, "model.json": json.dumps(fields).encode()})


def test_everything_comes_back(path, info, weights, golden):
    package = load_package(path)
    assert package.info == info
    assert package.card == "# Liver\n"
    loaded = package.weights()
    assert {name: array.dtype.name for name, array in loaded.items()} == {
        "a.bias": "float32",
        "b.weight": "float32",
        "count": "int64",
    }
    assert all(np.array_equal(loaded[name], weights[name]) for name in weights)
    case = package.golden()
    assert case is not None
    assert case.volume.grid == golden.volume.grid
    assert np.array_equal(case.volume.array, golden.volume.array)
    assert np.array_equal(case.labels, golden.labels)


def test_the_label_table_is_sorted_and_carries_codes(info):
    assert info.label_table.values == (1, 2)
    assert next(iter(info.label_table)).code == Code("SCT", "10200004", "Liver")


def test_the_channels_of_the_network_follow_from_labels_regions_and_slices(info):
    assert (info.in_channels, info.channel_count) == (1, 3)
    assert info.channel_rule == ChannelRule((0, 1, 2))
    assert info.label_regions == ()
    fields = info.model_dump(mode="json")
    fields["regions"] = [{"name": "all", "values": [1, 2], "paint": 1}]
    fields["architecture"]["dimensions"] = 2
    fields["channels"].append({"name": "second", "modality": "CT", "contrast": None})
    fields["tile"]["slices_around"] = 2
    sliced = ModelInfo.model_validate(fields)
    assert (sliced.in_channels, sliced.channel_count) == (10, 1)
    assert sliced.channel_rule == ChannelRule((1,), exclusive=False)
    assert sliced.label_regions == (LabelRegion("all", (1, 2), 1),)
    assert json.loads(sliced.to_json()) == fields


def test_regions_and_located_labels_exclude_each_other(info):
    fields = info.model_dump(mode="json")
    fields["regions"] = [{"name": "all", "values": [1, 2], "paint": 1}]
    fields["located_labels"] = fields["labels"]
    with pytest.raises(ValueError, match="cannot have located_labels"):
        ModelInfo.model_validate(fields)


def test_the_same_package_gives_the_same_bytes(path, tmp_path, info, weights, golden):
    again = tmp_path / "again.volseg"
    write_package(again, info=info, weights=dict(reversed(weights.items())), card="# Liver\n", golden=golden)
    assert again.read_bytes() == path.read_bytes()
    assert sorted(tmp_path.iterdir()) == [again, path]


def test_a_package_without_a_golden_case(tmp_path, info, weights):
    write_package(tmp_path / "x.volseg", info=info, weights=weights, card="", golden=None)
    assert load_package(tmp_path / "x.volseg").golden() is None


def test_reading_needs_no_torch(path):
    code = (
        "import sys; from volseg.package import load_package; from volseg.zoo import packages; packages();"
        f"print(load_package({str(path)!r}).info.name);"
        "heavy = {'torch', 'monai', 'scipy', 'nibabel', 'SimpleITK'} & set(sys.modules); assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "liver\n"


def test_an_interrupted_write_leaves_nothing(tmp_path, info, weights, monkeypatch):
    def fail(*arguments):
        raise OSError("no space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "writestr", fail)
    with pytest.raises(OutputError, match="no space left"):
        write_package(tmp_path / "x.volseg", info=info, weights=weights, card="", golden=None)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there(tmp_path, info, weights):
    with pytest.raises(OutputError, match="cannot be written"):
        write_package(tmp_path / "no" / "x.volseg", info=info, weights=weights, card="", golden=None)


def test_no_file_a_directory_and_no_zip(tmp_path):
    with pytest.raises(PackageError, match="no such file"):
        load_package(tmp_path / "x.volseg")
    with pytest.raises(PackageError, match="not a readable model package"):
        load_package(tmp_path)
    (tmp_path / "x.volseg").write_text("hello")
    with pytest.raises(PackageError, match="not a readable model package"):
        load_package(tmp_path / "x.volseg")


def test_every_cut_and_every_flipped_byte_is_noticed(path):
    whole = path.read_bytes()
    for length in range(0, len(whole), 401):
        path.write_bytes(whole[:length])
        with pytest.raises(PackageError):
            load_package(path)
    start = whole.index(b"liver")
    for position in range(start, start + 40, 7):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        with pytest.raises(PackageError):
            load_package(path)


@pytest.mark.parametrize("name", ["../evil.py", "/etc/evil", "weights.pkl", "folder/", "model.json/../x"])
def test_members_that_do_not_belong_are_refused(path, name):
    rewrite(path, {**members_of(path), name: b"evil"})
    with pytest.raises(PackageError, match="unknown member"):
        load_package(path)


@pytest.mark.parametrize("name", ["model.json", "README.md", "weights.safetensors"])
def test_missing_members_are_named(path, name):
    rewrite(path, {other: data for other, data in members_of(path).items() if other != name})
    with pytest.raises(PackageError, match=f"{name} is missing"):
        load_package(path)


def test_missing_checksums(path):
    rewrite(path, {name: data for name, data in members_of(path).items() if name != "SHA256SUMS"}, sums=False)
    with pytest.raises(PackageError, match="SHA256SUMS is missing"):
        load_package(path)


def test_a_member_that_is_there_twice(path):
    with zipfile.ZipFile(path, "a") as file, pytest.warns(UserWarning, match="Duplicate"):
        file.writestr("model.json", b"{}")
    with pytest.raises(PackageError, match="more than once"):
        load_package(path)


def test_a_member_that_is_not_what_its_checksum_says(path):
    rewrite(path, {**members_of(path), "README.md": b"# Lever\n"}, sums=False)
    with pytest.raises(PackageError, match=r"README.md is not what its SHA-256 says"):
        load_package(path)


@pytest.mark.parametrize(
    "sums", [b"", b"abc", b"\xff\xfe", b"a  README.md\n" * 4, b"a  ../x\nb  model.json\n"]
)
def test_checksums_that_do_not_list_the_members(path, sums):
    rewrite(path, {**members_of(path), "SHA256SUMS": sums}, sums=False)
    with pytest.raises(PackageError, match="SHA256SUMS does not list"):
        load_package(path)


def test_compressed_members_are_refused_so_that_no_small_file_can_claim_much_memory(path):
    rewrite(path, {**members_of(path), "README.md": b"0" * 10_000_000}, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(PackageError, match="compressed"):
        load_package(path)


def test_members_that_are_too_large_are_refused(path, monkeypatch):
    monkeypatch.setitem(archive_module._MOST_BYTES, "model.json", 100)
    with pytest.raises(PackageError, match=r"model.json says it has \d+ bytes; at most 100"):
        load_package(path)


@pytest.mark.parametrize(
    "text", [b"", b"{", b"\xff", b"[" * 100_000, b"1" * 10_000, b'{"format": 1, "name": NaN}'], ids=range(6)
)
def test_model_json_that_is_not_json(path, text):
    rewrite(path, {**members_of(path), "model.json": text})
    with pytest.raises(PackageError, match=r"model.json|format"):
        load_package(path)


@pytest.mark.parametrize("found", [FORMAT + 1, 0, "1", None, True, 1.5])
def test_another_format_is_refused_naming_both(path, found):
    with_json(path, lambda fields: fields.update(format=found, new_field=3))
    with pytest.raises(PackageError, match=f"has format {found!r}, this volseg reads format {FORMAT}"):
        load_package(path)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda fields: fields.update(nmae="x"), "nmae"),
        (lambda fields: fields.pop("limits"), "limits"),
        (lambda fields: fields.update(name="../x"), "name"),
        (lambda fields: fields["tile"].update(overlap=1), "tile.overlap"),
        (lambda fields: fields["labels"][0].update(value=0), r"labels.0.value"),
        (lambda fields: fields["labels"][0].update(name="liver"), "repeats the name"),
        (lambda fields: fields["labels"][0].update(colour=[0, 0, 999]), "colour"),
        (lambda fields: fields.update(labels=[]), "labels"),
        (lambda fields: fields.update(channels=[]), "channels"),
        (lambda fields: fields["preprocess"][0].pop("name"), "preprocess"),
        (lambda fields: fields["architecture"].pop("name"), "name"),
        (lambda fields: fields.update(mirror_axes=[0, 0]), "mirror_axes"),
        (lambda fields: fields.update(mirror_axes=[3]), "mirror_axes"),
        (lambda fields: fields["scores"][0].update(label="spleen"), "spleen"),
        (
            lambda fields: fields.update(regions=[{"name": "a", "values": [1, 3], "paint": 1}]),
            r"values \[3\]",
        ),
        (lambda fields: fields.update(regions=[{"name": "a", "values": [1], "paint": 2}]), "paints 2"),
        (lambda fields: fields.update(regions=[{"name": "a", "values": [1], "paint": 1}] * 2), "two regions"),
        (lambda fields: fields.update(regions=[{"name": "a", "values": [], "paint": 1}]), "regions.0.values"),
        (lambda fields: fields["tile"].update(slices_around=1), "slices_around is 1"),
        (lambda fields: fields["tile"].update(slices_around=-1), "tile.slices_around"),
    ],
)
def test_fields_that_do_not_fit_are_named(path, change, word):
    with_json(path, change)
    with pytest.raises(PackageError, match=word):
        load_package(path)


def test_a_card_that_is_not_text(path):
    rewrite(path, {**members_of(path), "README.md": b"\xff\xfe"})
    with pytest.raises(PackageError, match="UTF-8"):
        load_package(path)


@pytest.mark.parametrize("data", [b"", b"\x80\x04pickle", (2**40).to_bytes(8, "little") + b"{}"])
def test_weights_that_are_no_safetensors(path, data):
    rewrite(path, {**members_of(path), "weights.safetensors": data})
    with pytest.raises(PackageError, match="not readable as safetensors"):
        load_package(path).weights()


def test_weights_that_are_not_finite(path):
    rewrite(path, {**members_of(path), "weights.safetensors": save({"a": np.float16([1, np.inf])})})
    with pytest.raises(PackageError, match="NaN or infinity"):
        load_package(path).weights()


@pytest.mark.parametrize(
    "tensors",
    [
        {"image": np.zeros((1, 5, 6, 7)), "affine": AFFINE},
        {"image": np.zeros((1, 5, 6, 7)), "affine": AFFINE, "labels": np.zeros((5, 7, 6), np.uint8)},
        {"image": np.zeros((1, 5, 6, 7)), "affine": AFFINE, "labels": np.zeros((5, 6, 7))},
        {
            "image": np.zeros((1, 5, 6, 7)),
            "affine": np.zeros((4, 4)),
            "labels": np.zeros((5, 6, 7), np.uint8),
        },
        {"image": np.zeros((1, 5, 6, 7)), "affine": AFFINE, "labels": np.uint8(3)},
    ],
)
def test_golden_cases_that_do_not_fit_together(path, tensors):
    tensors = {name: np.asarray(array) for name, array in tensors.items()}
    rewrite(path, {**members_of(path), "golden.safetensors": save(tensors)})
    with pytest.raises(PackageError, match="golden case"):
        load_package(path).golden()
