import hashlib
import io
import logging

import pytest
import torch
from safetensors.torch import save as encode_tensors
from torch import nn

from volseg.errors import ConfigError, InputError
from volseg.models.unetpp import UNetPlusPlus
from volseg.package import load_package
from volseg.train.pretrained import apply_encoder_weights, read_weights
from volseg.train.run import run_training


def network(**fields):
    return UNetPlusPlus(**{"dimensions": 2, "widths": (8, 8), "encoder": {"name": "vgg16"}} | fields).build(
        1, 2
    )


def weights():
    torch.manual_seed(5)
    found = {}
    for number, shape in {
        0: (64, 3, 3, 3),
        2: (64, 64, 3, 3),
        5: (128, 64, 3, 3),
        7: (128, 128, 3, 3),
    }.items():
        found |= {
            f"features.{number}.weight": torch.randn(shape),
            f"features.{number}.bias": torch.randn(shape[:1]),
        }
    return found | {"classifier.6.bias": torch.zeros(7)}


def content(value):
    stream = io.BytesIO()
    torch.save(value, stream)
    return stream.getvalue()


@pytest.fixture
def write(tmp_path):
    def to(name, data):
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return to


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
def test_a_torchvision_file_is_applied_and_told_with_its_checksum(write, wrapper):
    found = weights()
    data = content(found if wrapper is None else {wrapper: found, "epoch": 3})
    digest = hashlib.sha256(data).hexdigest()
    path = write(f"vgg16-{digest[:8]}.pth", data)
    net = network()
    assert apply_encoder_weights(net, path) == (
        f"vgg16-{digest[:8]}.pth (SHA-256 {digest}): 8 of 8 tensors; first layer 3 to 1 channels, summed; "
        "1 of the file left out"
    )
    state = net.encoder.state_dict()
    torch.testing.assert_close(state["stages.0.0.weight"][:, 0], found["features.0.weight"].sum(dim=1))
    assert torch.equal(state["stages.1.7.bias"], found["features.7.bias"])


def test_own_weights_come_as_safetensors(write):
    source, net = network(), network()
    path = write("encoder.safetensors", encode_tensors(source.encoder.state_dict()))
    assert "8 of 8 tensors" in apply_encoder_weights(net, path)
    for name, tensor in net.encoder.state_dict().items():
        assert torch.equal(tensor, source.encoder.state_dict()[name])


class Code:
    def __reduce__(self):
        return exec, ("raise SystemExit",)


BAD = {
    "empty.pth": (b"", "no state dict"),
    "text.pth": (b"hello, this is text", "no state dict"),
    "short.pth": (content(weights())[:5000], "cut short"),
    "code.pth": (content({"a": Code()}), "holds code"),
    "module.pth": (content(nn.Linear(2, 2)), "a whole model"),
    "list.pth": (content([torch.zeros(2)]), "but list"),
    "nothing.pth": (content({}), "no tensors by name"),
    "checkpoint.pth": (content({"weights": {"a": torch.zeros(1)}, "step": 3}), "'weights' is no tensor"),
    "sparse.pth": (
        content({"a": torch.eye(2).to_sparse()}),
        "'a' is no tensor of plain numbers (Tensor); give a state dict",
    ),
    "numbers.pth": (content({3: torch.zeros(1)}), "3 is no tensor"),
    "pth.safetensors": (content(weights()), "no readable safetensors"),
    "vgg16-00000000.pth": (content(weights()), "begins with 00000000"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_refused_in_one_paragraph(write, name):
    data, found = BAD[name]
    path = write(name, data)
    with pytest.raises(InputError) as caught:
        read_weights(path)
    assert found in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_files_and_folders_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"none\.pth: cannot be read \(No such file"):
        read_weights(tmp_path / "none.pth")
    with pytest.raises(InputError, match=r"cannot be read \(Is a directory"):
        read_weights(tmp_path)


def test_another_architecture_is_refused(write):
    path = write("vgg16.pth", content(weights()))
    with pytest.raises(
        ConfigError, match=r"vgg16\.pth.*features\.0\.weight is none of torchvision's resnets"
    ):
        apply_encoder_weights(network(encoder={"name": "resnet", "layers": 18}), path)
    with pytest.raises(ConfigError, match="Linear has no encoder"):
        apply_encoder_weights(nn.Linear(1, 1), path)


class Stopped(Exception):  # noqa: N818
    pass


def test_a_training_starts_from_the_weights_once_and_its_card_says_so(
    phantom_config, tmp_path, write, caplog
):
    fast = ("steps=2", "validation.every_steps=2", "validation.previews=0", "architecture.widths=[8, 8]")
    small = phantom_config(*fast)
    torch.manual_seed(6)
    source = small.architecture.build(1, 3).encoder
    path = write("encoder.safetensors", encode_tensors(source.state_dict()))
    config = phantom_config(*fast, f"encoder_weights={path}", "optimizer.learning_rate=1e-9")
    folder = tmp_path / "run"

    def stop(progress):
        raise Stopped

    with caplog.at_level(logging.INFO), pytest.raises(Stopped):
        run_training(config, folder, device="cpu", report=stop)
    note = (folder / "encoder_weights.txt").read_text(encoding="utf-8").strip()
    assert note.startswith(f"encoder.safetensors (SHA-256 {hashlib.sha256(path.read_bytes()).hexdigest()}): ")
    assert note in caplog.text
    package = load_package(run_training(config, folder, device="cpu", resume=True, report=lambda _: None))
    assert f"- Encoder: began with {note}\n" in package.card
    assert str(tmp_path) not in package.card
    for name, tensor in source.state_dict().items():
        found = torch.from_numpy(package.weights()[f"encoder.{name}"]).float()
        torch.testing.assert_close(found, tensor, rtol=1e-3, atol=1e-4)
    path.unlink()
    run_training(config, folder, device="cpu", resume=True, report=lambda _: None)


def test_a_missing_file_is_told_before_anything_is_made(phantom_config, tmp_path):
    config = phantom_config("encoder_weights=none.pth")
    with pytest.raises(InputError, match=r"none\.pth"):
        run_training(config, tmp_path / "run", device="cpu", report=lambda _: None)
    assert not (tmp_path / "run").exists()
