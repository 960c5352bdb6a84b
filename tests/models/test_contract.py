"""What every network of the catalogue keeps to, in 2D and 3D."""

from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import nn

from volseg.config import load_config
from volseg.errors import ConfigError, InputError
from volseg.models import MODELS
from volseg.models.alignment import cropped
from volseg.models.catalogue import CATALOGUE, variant
from volseg.models.encoder_decoder import EncoderDecoder
from volseg.models.encoders import ENCODERS
from volseg.models.encoders.plain import PlainEncoder
from volseg.models.export import INPUT, to_onnx
from volseg.train.settings import TrainConfig

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "configs/smoke/train_phantom.yaml"
AWKWARD = (9, 20, 29)
CHANNELS, LABELS = 2, 3
MOST = 9
"""More levels than any variant has."""

PLACES = [(one.name, dimensions) for one in CATALOGUE for dimensions in one.dimensions]


def has_own_form(name):
    return variant(name).settings.get("encoder", {"name": "plain"})["name"] != "plain"


FAST = [
    pytest.param(name, dimensions, 3 if has_own_form(name) else 4, id=f"{name}-{dimensions}d")
    for name, dimensions in PLACES
    if dimensions == 2 or not has_own_form(name)
]
WHOLE = [
    pytest.param(name, dimensions, MOST, id=f"{name}-{dimensions}d-whole", marks=pytest.mark.slow)
    for name, dimensions in PLACES
    if has_own_form(name)
]


def small(name, dimensions, most_levels):
    """A variant with 8 feature maps and fewer levels; its self-attention stays on the coarsest."""
    fields = variant(name).fields(dimensions)
    valid = fields.get("padding") == "valid"
    all_levels = len(fields.get("widths", range(5)))
    levels = min(all_levels, 3 if valid else most_levels)
    fields["widths"] = [8] * levels
    if "self_attention_levels" in fields:
        fields["self_attention_levels"] = [
            level - all_levels + levels for level in fields["self_attention_levels"]
        ]
    if "strides" in fields:
        fields["kernel_sizes"] = fields["kernel_sizes"][:levels]
        fields["strides"] = fields["strides"][: levels - 1]
    if "width_multiplier" in fields:
        fields["widths"] = [16] * levels
    return MODELS.build(fields)


def built(architecture):
    torch.manual_seed(3)
    return architecture.build(CHANNELS, LABELS)


def image(network, dimensions):
    """Two samples of extents that differ by axis."""
    *others, last = network.extents.fitting(AWKWARD[:dimensions])
    if last == others[-1]:
        last += network.extents.divisors[-1]
    return torch.randn(2, CHANNELS, *others, last)


@pytest.mark.parametrize(("name", "dimensions", "most_levels"), [*FAST, *WHOLE])
def test_contract(name, dimensions, most_levels, tmp_path):
    architecture = small(name, dimensions, most_levels)
    network = built(architecture)
    batch = image(network, dimensions)
    settings_survive_yaml(name, dimensions, tmp_path)
    heads, gradients = training_reaches_every_parameter(network, batch)
    logits = inference_is_of_the_right_shape_and_the_same_twice(network, batch)
    weights_and_parameters_survive_a_package(architecture, network, batch, logits, tmp_path)
    extents_are_taken_or_refused(network, batch, aligned=architecture.align != "exact")
    pruned_networks_give_the_heads_of_the_whole(architecture, network, batch, heads)
    recomputing_gives_the_same_gradients(network, batch, gradients)


def settings_survive_yaml(name, dimensions, folder):
    document = yaml.safe_load(CONFIG.read_text())
    document["architecture"] = variant(name).fields(dimensions)
    document["patch_voxels"] = [64, 64, 1 if dimensions == 2 else 64]
    path = folder / "train.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    assert load_config(path, TrainConfig).architecture == variant(name).architecture(dimensions)


def in_training(network, batch):
    """The logits of all heads, and the gradients of a loss on all of them."""
    torch.manual_seed(11)
    network.train().zero_grad(set_to_none=True)
    outputs = network(batch)
    outputs = outputs if isinstance(outputs, list) else [outputs]
    torch.stack([head.square().mean() for head in outputs]).sum().backward()
    gradients = {name: parameter.grad for name, parameter in network.named_parameters()}
    return [head.detach() for head in outputs], gradients


def training_reaches_every_parameter(network, batch):
    heads, gradients = in_training(network, batch)
    assert len(heads) == len(network.heads) + (network.fusion is not None)
    assert (len(heads) > 1) == (network.deep_supervision and network.head > 1)
    expected = (2, LABELS, *network.extents.output(tuple(batch.shape[2:])))
    assert {tuple(head.shape) for head in heads} == {expected}
    assert [name for name, gradient in gradients.items() if gradient is None] == []
    assert [name for name, gradient in gradients.items() if not gradient.isfinite().all()] == []
    assert all(module.bias.shape == (LABELS,) for module in network.heads.values())
    return heads, gradients


def inference_is_of_the_right_shape_and_the_same_twice(network, batch):
    network.eval()
    with torch.no_grad():
        logits = network(batch)
        assert torch.equal(logits, network(batch))
        one = network(batch[1:])
    assert logits.shape == (2, LABELS, *network.extents.output(tuple(batch.shape[2:])))
    assert logits.isfinite().all()
    assert torch.allclose(one, logits[1:], atol=1e-4)
    return logits


def weights_and_parameters_survive_a_package(architecture, network, batch, logits, folder):
    save_file(network.state_dict(), folder / "weights.safetensors")
    again = MODELS.build(architecture.model_dump(mode="json"))
    assert again == architecture
    loaded = again.build(CHANNELS, LABELS).eval()
    loaded.load_state_dict(load_file(folder / "weights.safetensors"))
    with torch.no_grad():
        assert torch.equal(loaded(batch), logits)


def extents_are_taken_or_refused(network, batch, *, aligned):
    network.eval()
    extents = tuple(batch.shape[2:])
    with pytest.raises(InputError, match="axes"):
        network(batch[..., 0])
    rule = network.extents
    if aligned and rule.margins == (0,) * len(extents):
        odd = tuple(extent - step for step, extent in enumerate(extents, start=1))
        with torch.no_grad():
            assert network(batch[(..., *map(slice, odd))]).shape[2:] == odd
        return
    for axis in range(len(extents)):
        if rule.divisors[axis] > 1:
            wrong = batch.narrow(2 + axis, 0, extents[axis] - 1)
            fitting = str(rule.fitting(tuple(wrong.shape[2:]))).replace("(", r"\(").replace(")", r"\)")
            with pytest.raises(InputError, match=f"pad the input to {fitting}"):
                network(wrong)


def pruned_networks_give_the_heads_of_the_whole(architecture, network, batch, heads):
    for head in range(1, network.head) if network.deep_supervision and architecture.name == "unetpp" else []:
        pruned = architecture.build(CHANNELS, LABELS, head=head).train()
        pruned.load_state_dict({key: network.state_dict()[key] for key in pruned.state_dict()})
        torch.manual_seed(11)
        with torch.no_grad():
            outputs = pruned(batch)
        for mine, reference in zip(outputs[:head], heads[:head], strict=True):
            common = tuple(map(min, mine.shape[2:], reference.shape[2:]))
            mine, reference = (cropped(logits, common, centred=True) for logits in (mine, reference))
            assert torch.allclose(mine, reference, atol=1e-5), f"head {head}"


def recomputing_gives_the_same_gradients(network, batch, gradients):
    if any(isinstance(module, (nn.BatchNorm2d, nn.BatchNorm3d)) for module in network.modules()):
        with pytest.raises(ConfigError, match="batch norm"):
            network.recompute(on=True)
        return
    network.recompute(on=True)
    _, again = in_training(network, batch)
    for name, gradient in gradients.items():
        assert torch.allclose(again[name], gradient, rtol=1e-4, atol=1e-6), name


@pytest.mark.slow
@pytest.mark.parametrize(("name", "dimensions"), PLACES)
def test_onnx_gives_the_logits_of_torch(name, dimensions):
    onnxruntime = pytest.importorskip("onnxruntime")
    network = built(small(name, dimensions, 3))
    network.train()
    batch = image(network, dimensions)
    in_training(network, batch)  # so that running statistics and batch norms are not those of the start
    model = to_onnx(network, tuple(batch.shape[2:]), in_channels=CHANNELS)
    assert network.training
    network.eval()
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for count in (1, 3):
        images = torch.randn(count, *batch.shape[1:])
        with torch.no_grad():
            expected = network(images)
        (found,) = session.run(None, {INPUT: images.numpy()})
        assert torch.allclose(torch.from_numpy(found), expected, atol=1e-4, rtol=1e-4)


def test_names_are_unique():
    assert len({one.name for one in CATALOGUE}) == len(CATALOGUE)


def test_every_variant_is_in_the_documentation():
    page = (ROOT / "docs/architectures.md").read_text(encoding="utf-8")
    assert [one.name for one in CATALOGUE if f"| {one.name} |" not in page] == []


def own(names, registry):
    return {name for name in names if registry.get(name).__module__.startswith("volseg.")}


def test_every_architecture_and_encoder_is_in_the_catalogue():
    assert {one.settings["name"] for one in CATALOGUE} == own(MODELS.names(), MODELS)
    encoders = {one.architecture(one.dimensions[0]).encoder.name for one in CATALOGUE}
    assert encoders == own(ENCODERS.names(), ENCODERS)


def options(model):
    """(field, option) of every choice of words and every switch."""
    for name, field in model.model_fields.items():
        if name == "name":
            continue
        if field.annotation is bool:
            yield from ((name, False), (name, True))
        elif get_origin(field.annotation) is Literal:
            yield from ((name, option) for option in get_args(field.annotation))


def shown(step: Any):
    return {(name, getattr(step, name)) for name in type(step).model_fields if name != "encoder"}


def test_every_option_is_in_the_catalogue():
    architectures = [one.architecture(dimensions) for one in CATALOGUE for dimensions in one.dimensions]
    found = set().union(*(shown(architecture) for architecture in architectures))
    assert set(options(EncoderDecoder)) <= found
    plain = [one.encoder for one in architectures if isinstance(one.encoder, PlainEncoder)]
    assert set(options(PlainEncoder)) <= set().union(*map(shown, plain))
    for name in ("kernel_sizes", "strides", "self_attention_levels"):
        assert any(getattr(architecture, name) for architecture in architectures), name
    for name in ("width_multiplier", "depth_multiplier"):
        assert any(getattr(architecture, name) != 1 for architecture in architectures), name


def test_unknown_variant():
    with pytest.raises(ConfigError, match="Did you mean 'unetpp-scse'"):
        variant("unetpp-csse")
