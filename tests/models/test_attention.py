import warnings
from math import erf

import numpy as np
import pytest
import torch

from volseg.errors import InputError
from volseg.models.attention.gate import AttentionGate
from volseg.models.attention.recalibration import (
    ConcurrentExcitation,
    SqueezeExcitation,
    recalibration,
)
from volseg.models.attention.transformer import SelfAttention
from volseg.models.unet import UNet
from volseg.models.unetpp import UNetPlusPlus


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x):
    powers = np.exp(x - x.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def randomised(module, std=0.5):
    torch.manual_seed(7)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(std=std)
    return module.eval()


def numbers(module):
    return {name: value.double().numpy() for name, value in module.state_dict().items()}


def excited(x, weights, prefix=""):
    """Hu et al. 2018, eq. 2 to 4, in numpy."""
    z = x.mean(axis=tuple(range(2, x.ndim)))
    inner = np.maximum(z @ weights[f"{prefix}weigh.0.weight"].T + weights[f"{prefix}weigh.0.bias"], 0)
    s = sigmoid(inner @ weights[f"{prefix}weigh.2.weight"].T + weights[f"{prefix}weigh.2.bias"])
    return x * s.reshape(*s.shape, *(1,) * (x.ndim - 2))


@pytest.mark.parametrize("dims", [2, 3])
def test_squeeze_and_excitation(dims):
    module, x = randomised(SqueezeExcitation(96)), torch.randn(2, 96, *(3, 4, 2)[:dims])
    np.testing.assert_allclose(module(x).detach(), excited(x.numpy(), numbers(module)), rtol=1e-4, atol=1e-5)
    assert module.weigh[0].out_features == 6
    assert SqueezeExcitation(8).weigh[0].out_features == 4


@pytest.mark.parametrize("dims", [2, 3])
def test_concurrent_excitation_takes_the_larger(dims):
    module, x = randomised(ConcurrentExcitation(dims, 8)), torch.randn(2, 8, *(3, 4, 2)[:dims])
    weights, array = numbers(module), x.numpy()
    logits = np.einsum("bc...,lc->bl...", array, weights["voxels.0.weight"].reshape(1, 8))
    voxels = array * sigmoid(logits + weights["voxels.0.bias"][0])
    expected = np.maximum(excited(array, weights, "channels."), voxels)
    np.testing.assert_allclose(module(x).detach(), expected, rtol=1e-4, atol=1e-5)


def test_spatial_attention():
    module, x = randomised(recalibration("spatial", 2, 5), std=0.1), torch.randn(1, 5, 6, 9)
    weights, array = numbers(module), x.numpy()
    pooled = np.pad(np.stack([array.mean(1), array.max(1)], 1), ((0, 0), (0, 0), (3, 3), (3, 3)))
    windows = np.lib.stride_tricks.sliding_window_view(pooled, (7, 7), axis=(2, 3))
    logits = np.einsum("bcijkl,ckl->bij", windows, weights["weigh.0.weight"][0]) + weights["weigh.0.bias"]
    expected = array * sigmoid(logits)[:, None]
    np.testing.assert_allclose(module(x).detach(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dims", [2, 3])
def test_gate(dims):
    gate = randomised(AttentionGate(dims, 6, 4))
    extents = (3, 5, 2)[:dims]
    x, g = torch.randn(2, 6, *extents), torch.randn(2, 4, *extents)
    w = numbers(gate)
    mixed = np.einsum("bc...,fc->bf...", x.numpy(), w["skip.weight"].reshape(3, 6))
    mixed += np.einsum("bc...,fc->bf...", g.numpy(), w["gating.weight"].reshape(3, 4))
    mixed = np.maximum(mixed + w["gating.bias"].reshape(1, 3, *(1,) * dims), 0)
    alpha = sigmoid(np.einsum("bf...,lf->bl...", mixed, w["psi.weight"].reshape(1, 3)) + w["psi.bias"][0])
    np.testing.assert_allclose(gate.weights(x, g).detach(), alpha, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(gate(x, g).detach(), x.numpy() * alpha, rtol=1e-4, atol=1e-5)


def transformed(x, w, heads):
    """A pre-norm transformer block on tokens [N, C], in numpy."""
    width = x.shape[1]

    def norm(t, name):
        scaled = (t - t.mean(-1, keepdims=True)) / np.sqrt(t.var(-1, keepdims=True) + 1e-5)
        return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]

    def linear(t, name):
        return t @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    q, k, v = np.split(linear(norm(x, "norm"), "queries_keys_values"), 3, axis=1)
    size = width // heads
    parts = [slice(n * size, (n + 1) * size) for n in range(heads)]
    mixed = [softmax(q[:, p] @ k[:, p].T / np.sqrt(size)) @ v[:, p] for p in parts]
    y = x + linear(np.concatenate(mixed, axis=1), "join")
    hidden = linear(norm(y, "mlp.0"), "mlp.1")
    errors = np.vectorize(erf)
    return y + linear(hidden * (1 + errors(hidden / np.sqrt(2))) / 2, "mlp.3")


@pytest.mark.parametrize(("width", "heads"), [(64, 2), (6, 1), (37, 1), (96, 3)])
def test_self_attention_against_numpy(width, heads):
    module = randomised(SelfAttention(3, width, budget_gib=1), std=0.1)
    assert module.heads == heads
    x = torch.randn(2, width, 3, 4, 2)
    w = numbers(module)
    placed = (x + module.position(x)).detach().double().numpy()
    for sample, found in zip(placed, module(x).detach(), strict=True):
        expected = transformed(sample.reshape(width, -1).T, w, heads).T.reshape(sample.shape)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    centre = w["position.weight"][:, 0, 1, 1, 1].reshape(1, -1, 1, 1, 1)
    alone = x[:, :, :1, :1, :1].numpy()
    expected = alone * centre + w["position.bias"].reshape(1, -1, 1, 1, 1)
    np.testing.assert_allclose(module.position(x[:, :, :1, :1, :1]).detach(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("extents", [(1, 1), (7, 3), (5, 2, 4), (1, 6, 1)])
def test_self_attention_starts_as_the_identity_at_any_extents(extents):
    module = SelfAttention(len(extents), 40, budget_gib=1)
    x = torch.randn(2, 40, *extents)
    assert torch.equal(module(x), x)
    module(x).square().mean().backward()
    assert all(parameter.grad is not None for parameter in module.parameters())
    assert module.position.weight.grad.any()


def test_self_attention_beyond_the_budget_is_refused_before_anything_is_computed():
    with torch.device("meta"):
        module = SelfAttention(3, 64, budget_gib=0.5)
    # 2 samples x 2 heads x 4096^2 x 4 bytes = 0.25 GiB; 8 samples take 1 GiB
    assert module(torch.empty(2, 64, 16, 16, 16, device="meta")).shape == (2, 64, 16, 16, 16)
    module.position.register_forward_pre_hook(lambda layer, inputs: pytest.fail("computed"))
    message = (
        r"^self-attention between the 4096 voxels of a level of extents \(16, 16, 16\), 2 heads and a batch of 8, "
        r"takes 1 GiB, more than the 0\.5 GiB of self_attention_gib\. Put .* coarser level, .* smaller patch .*, or raise"
    )
    with pytest.raises(InputError, match=message):
        module(torch.empty(8, 64, 16, 16, 16, device="meta"))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_self_attention_in_autocast(dtype):
    module = randomised(SelfAttention(2, 32, budget_gib=1), std=0.1)
    x = torch.randn(1, 32, 5, 6)
    with torch.autocast("cpu", dtype):
        half = module(x)
    torch.testing.assert_close(half.float(), module(x), rtol=0.05, atol=0.05)


@pytest.mark.parametrize("architecture", [UNet, UNetPlusPlus])
def test_self_attention_changes_only_what_the_decoder_sees(architecture):
    fields = {"dimensions": 2, "widths": (4, 6, 8), "norm": "none"}
    plain = architecture(**fields).build(1, 2).eval()
    network = architecture(**fields, self_attention_levels=(1, 2)).build(1, 2).eval()
    assert not network.load_state_dict(plain.state_dict(), strict=False).unexpected_keys
    image = torch.randn(1, 1, 12, 8)
    assert torch.equal(network(image), plain(image)), "it starts as the identity"
    states = []
    network.encoder.stages[2].register_forward_hook(lambda stage, inputs, output: states.append(output))
    network(image)
    for attention in network.attentions.values():
        randomised(attention)
    assert not torch.allclose(network(image), plain(image))
    assert torch.equal(*states), "the encoder's own path is as before"


def test_self_attention_of_a_pruned_network():
    parameters = UNetPlusPlus(dimensions=2, widths=(4, 6, 8), norm="none", self_attention_levels=(1, 2))
    full, pruned = parameters.build(1, 2), parameters.build(1, 2, head=1)
    assert list(pruned.attentions) == ["1"]
    for attention in full.attentions.values():
        randomised(attention)
    pruned.load_state_dict({name: full.state_dict()[name] for name in pruned.state_dict()})
    image = torch.randn(1, 1, 12, 8)
    torch.testing.assert_close(pruned.eval()(image), full.train()(image)[0])


def test_what_is_computed_again_includes_self_attention():
    parameters = UNet(dimensions=2, widths=(4, 6, 8), self_attention_levels=(2,), attention="scse")
    network = parameters.build(1, 2).train()
    randomised(network.attentions["2"], std=0.1).train()
    calls = []
    network.attentions["2"].register_forward_pre_hook(lambda module, inputs: calls.append(1))
    image, gradients = torch.randn(2, 1, 12, 8), []
    for again in (False, True):
        network.zero_grad()
        network.recompute(on=again)
        network(image)[-1].square().mean().backward()
        gradients.append([p.grad.clone() for p in network.parameters() if p.grad is not None])
    assert len(calls) == 3
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.slow
def test_self_attention_in_onnx_at_other_extents(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    module, x = randomised(SelfAttention(3, 48, budget_gib=1), std=0.1), torch.randn(2, 48, 4, 5, 6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dynamic = {"x": {axis: torch.export.Dim(name, min=2, max=20) for axis, name in ((2, "i"), (3, "j"), (4, "k"))}}  # fmt: skip
        program = torch.onnx.export(module, (x,), dynamo=True, verbose=False, dynamic_shapes=dynamic)
    program.save(tmp_path / "module.onnx")
    other = torch.randn(2, 48, 3, 7, 2)
    found = onnxruntime.InferenceSession(tmp_path / "module.onnx").run(None, {"x": other.numpy()})[0]
    np.testing.assert_allclose(found, module(other).detach(), rtol=1e-4, atol=1e-4)
