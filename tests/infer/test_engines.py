import logging
import sys

import numpy as np
import pytest
import torch

from volseg.errors import ConfigError, DeviceError, IntensityError, PackageError
from volseg.infer import engines
from volseg.infer.engines import choose_device, keep_memory_mapped, package_engine
from volseg.models import MODELS
from volseg.package import Package, TileInfo


def tiles(count, shape=(4, 5, 3), seed=0):
    return np.random.default_rng(seed).normal(size=(count, 1, *shape)).astype(np.float32)


def expected(batch):
    return np.concatenate([batch * 0, batch - 1, batch * 2 - 4], axis=1)


def test_logits_of_a_3d_network(make_package):
    batch = tiles(3)
    assert np.array_equal(package_engine(make_package(), device="cpu")(batch), expected(batch))


def test_a_2d_network_sees_slices_and_gives_tiles_one_voxel_thick(make_package):
    architecture = {"name": "test_thresholds", "dimensions": 2, "rolled": True}
    engine = package_engine(
        make_package(architecture=architecture, tile=TileInfo(tile_voxels=(4, 5, 1))), device="cpu"
    )
    batch = tiles(3, (4, 5, 1))
    assert np.array_equal(engine(batch), expected(np.roll(batch, -1, axis=2)))


@pytest.mark.parametrize("axes", [[0], [1, 2], [0, 1, 2]])
def test_mirroring_averages_over_all_flips_of_its_axes(make_package, axes):
    package = make_package(architecture={"name": "test_thresholds", "rolled": True}, mirror_axes=axes)
    batch = tiles(2)
    forward, backward = expected(np.roll(batch, -1, axis=2)), expected(np.roll(batch, 1, axis=2))
    result = package_engine(package, device="cpu")(batch)
    assert np.allclose(result, (forward + backward) / 2 if 0 in axes else forward, atol=1e-6)


def test_device_words():
    assert choose_device("cpu").type == "cpu"
    assert choose_device("auto").type in {"cpu", "cuda"}
    with pytest.raises(ConfigError, match="auto, cpu or cuda"):
        choose_device("gpu")


def test_cuda_is_refused_where_there_is_none(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceError, match="--device cpu"):
        choose_device("cuda")


def test_out_of_cuda_memory_halves_the_batch_then_moves_to_the_cpu(make_package, monkeypatch, caplog):
    engine = package_engine(make_package(), device="cpu")
    engine.device, engine.tiles_per_batch = torch.device("cuda"), 4
    run, seen = engine._run, []

    def run_or_fail(batch):
        seen.append((engine.device.type, len(batch)))
        if engine.device.type == "cuda" and (len(batch) > 2 or len(seen) > 3):
            raise torch.OutOfMemoryError
        return run(batch) if engine.device.type == "cpu" else expected(batch)

    monkeypatch.setattr(engine, "_run", run_or_fail)
    batch = tiles(7)
    with caplog.at_level(logging.WARNING):
        assert np.array_equal(engine(batch), expected(batch))
    assert seen[:3] == [("cuda", 4), ("cuda", 2), ("cuda", 2)]
    assert engine.device.type == "cpu"
    assert "2 tiles at once" in caplog.text
    assert "going on with the CPU" in caplog.text


def test_out_of_memory_on_the_cpu_is_told(make_package, monkeypatch):
    engine = package_engine(make_package(), device="cpu")

    def fail(batch):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(engine, "_run", fail)
    with pytest.raises(DeviceError, match="not enough memory"):
        engine(tiles(1))


def test_logits_that_are_not_finite_are_refused(make_package):
    batch = tiles(1)
    batch[0, 0, 1, 2, 1] = np.inf
    with pytest.raises(IntensityError, match="NaN or infinite"):
        package_engine(make_package(), device="cpu")(batch)


def test_weights_of_another_architecture_are_refused(make_info):
    package = Package.pack(make_info(), weights={"scale": np.zeros(3, np.float32)}, card="", golden=None)
    with pytest.raises(PackageError, match="offset"):
        package_engine(package, device="cpu")


@pytest.mark.parametrize(
    ("architecture", "tile_voxels", "word"),
    [
        ({"name": "test_threshold"}, (4, 5, 3), "Did you mean 'test_thresholds'"),
        ({"name": "test_thresholds", "width": 3}, (4, 5, 3), "width"),
        ({"name": "test_thresholds", "divisors": (2, 2, 2)}, (4, 5, 4), "do not suit the network"),
        ({"name": "test_thresholds", "dimensions": 2}, (4, 5, 3), "one voxel thick"),
    ],
)
def test_packages_whose_parts_do_not_fit_are_refused(make_package, architecture, tile_voxels, word):
    package = make_package(architecture=architecture, tile=TileInfo(tile_voxels=tile_voxels))
    with pytest.raises(PackageError, match=word):
        package_engine(package, device="cpu")


def test_freed_memory_is_kept_where_the_c_library_allows_it(monkeypatch):
    assert keep_memory_mapped() in {True, False}
    monkeypatch.setattr(engines.ctypes, "CDLL", lambda name: object())
    assert not keep_memory_mapped()
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not keep_memory_mapped()


@pytest.mark.parametrize(("dimensions", "tile_voxels"), [(3, (8, 12, 4)), (2, (8, 12, 1))])
def test_a_pruned_unetpp_runs_as_its_own_module_does(make_info, dimensions, tile_voxels):
    architecture = {"name": "unetpp", "dimensions": dimensions, "widths": [3, 4, 5]}
    torch.manual_seed(0)
    module = MODELS.build(architecture).build(1, 3, head=1)
    weights = {name: tensor.numpy() for name, tensor in module.state_dict().items()}
    info = make_info(architecture=architecture, head=1, tile=TileInfo(tile_voxels=tile_voxels))
    engine = package_engine(Package.pack(info, weights=weights, card="", golden=None), device="cpu")
    batch = tiles(2, tile_voxels)
    own = torch.from_numpy(batch if dimensions == 3 else batch[..., 0])
    with torch.inference_mode():
        logits = module.eval()(own).numpy()
    assert np.allclose(engine(batch), logits if dimensions == 3 else logits[..., np.newaxis], atol=1e-6)


def test_a_head_that_was_not_packed_is_refused(make_info):
    architecture = {"name": "unetpp", "widths": [3, 4, 5]}
    module = MODELS.build(architecture).build(1, 3, head=1)
    weights = {name: tensor.numpy() for name, tensor in module.state_dict().items()}
    info = make_info(architecture=architecture, head=1, tile=TileInfo(tile_voxels=(8, 8, 4)))
    package = Package.pack(info, weights=weights, card="", golden=None)
    with pytest.raises(PackageError, match="packed with its heads up to 1 only; found head 2"):
        package_engine(package, device="cpu", head=2)


@pytest.mark.parametrize(
    ("name", "head", "message"),
    [
        ("unetpp", 3, "has no head 3; it has heads 1 to 2"),
        ("unet", 1, "Use unetpp for a network that can be"),
    ],
)
def test_a_head_that_does_not_exist_is_refused(make_info, name, head, message):
    architecture = {"name": name, "widths": [3, 4, 5]}
    weights = {
        key: value.numpy() for key, value in MODELS.build(architecture).build(1, 3).state_dict().items()
    }
    info = make_info(architecture=architecture, tile=TileInfo(tile_voxels=(8, 8, 4)))
    package = Package.pack(info, weights=weights, card="", golden=None)
    with pytest.raises(PackageError, match=message):
        package_engine(package, device="cpu", head=head)
