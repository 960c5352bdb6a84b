import itertools

import pytest
import torch
from pydantic import ValidationError
from torch import nn
from torch.nn import functional

from tests.models.encoders.levels import plan
from volseg.errors import ConfigError
from volseg.models.encoders.swin import Swin, SwinBlock, SwinStage, Windows, published_name
from volseg.models.unetpp import UNetPlusPlus

SMALL = {"embed": 12, "depths": (2, 2, 2), "heads": (1, 2, 4), "window": 3}


def built(dims, levels=3, channels=3, **fields):
    torch.manual_seed(1)
    return Swin(**fields).build(channels, plan(dims, levels))


def attended(block, x, window, shift):
    """Equation 3 voxel by voxel: a voxel sees those whose position, less the shift, is in the same cell along every axis.

    x [B, I, J, K, C], normalised and padded; shift per axis.
    """
    extents, heads = x.shape[1:-1], block.attn.num_heads
    places = list(itertools.product(*map(range, extents)))
    qkv = block.attn.qkv(x).reshape(x.shape[0], len(places), 3, heads, -1)
    query, key, value = qkv.unbind(2)
    table = block.attn.relative_position_bias_table.reshape(*(2 * window - 1,) * len(extents), heads)
    cells = [tuple((p - s) // window for p, s in zip(place, shift, strict=True)) for place in places]
    rows = []
    for n, place in enumerate(places):
        seen = [m for m in range(len(places)) if cells[m] == cells[n]]
        offsets = [tuple(a - b + window - 1 for a, b in zip(place, places[m], strict=True)) for m in seen]
        bias = torch.stack([table[offset] for offset in offsets])
        scores = (query[:, n, None] * key[:, seen]).sum(-1) / key.shape[-1] ** 0.5 + bias
        rows.append((scores.softmax(1)[..., None] * value[:, seen]).sum(1).flatten(1))
    return block.attn.proj(torch.stack(rows, 1)).reshape(x.shape)


def by_hand(block, x, window, shift):
    extents = x.shape[1:-1]
    pads = [n for extent in reversed(extents) for n in (0, -extent % window)]
    y = attended(block, functional.pad(block.norm1(x), (0, 0, *pads)), window, shift)
    x = x + y[(slice(None), *(slice(extent) for extent in extents))]
    return x + block.mlp(block.norm2(x))


@pytest.mark.parametrize(("extents", "shift"), [((7, 12), (2, 2)), ((3, 9), (0, 2)), ((3, 5, 6), (0, 1, 1))])
def test_blocks_see_the_windows_of_the_paper(extents, shift):
    torch.manual_seed(3)
    window = 4 if len(extents) == 2 else 3
    blocks = [SwinBlock(8, 2, window, len(extents)) for _ in range(2)]
    for block in blocks:
        nn.init.normal_(block.attn.relative_position_bias_table)
        nn.init.normal_(block.attn.qkv.weight)
    x = torch.randn(2, *extents, 8)
    stage = SwinStage(nn.Identity(), blocks, nn.LayerNorm(8), window=window, embeds=False)
    with torch.no_grad():
        expected = by_hand(blocks[1], by_hand(blocks[0], x, window, (0,) * len(extents)), window, shift)
        torch.testing.assert_close(stage(x), expected, rtol=1e-4, atol=1e-4)


def test_cutting_and_joining_gives_the_map_back():
    x = torch.randn(2, 5, 8, 3, 4)
    windows = Windows(4, [8, 8, 4], [2, 2, 0], None)
    cut = windows.cut(x)
    assert cut.shape == (2 * 2 * 2, 64, 4)
    assert torch.equal(windows.joined(cut, tuple(x.shape)), x)


@pytest.mark.parametrize(("extents", "patch"), [((33, 70), 4), ((35, 18, 41), 2), ((9, 8, 5), 1)])
def test_features_have_their_widths_and_extents_rounded_up(extents, patch):
    dims = len(extents)
    encoder = built(dims, **SMALL, patch=patch).eval()
    assert encoder.widths == (12, 24, 48)
    assert encoder.strides == ((patch,) * dims, (2,) * dims, (2,) * dims)
    state = torch.randn(1, 3, *extents)
    with torch.no_grad():
        for level, stage in enumerate(encoder.stages):
            state = stage(state)
            feature = encoder.feature(level, state)
            scale = patch * 2**level
            assert feature.shape == (1, encoder.widths[level], *(-(-extent // scale) for extent in extents))
            torch.testing.assert_close(feature.mean(1), torch.zeros_like(feature[:, 0]), rtol=0, atol=1e-5)


def test_merging_takes_the_neighbours_of_each_axis():
    encoder = built(3, **SMALL, patch=2)
    merging = encoder.stages[1].reduction
    with torch.no_grad():
        merging.norm = nn.Identity()
        merging.reduction.weight.copy_(torch.eye(24, 96))
        state = torch.randn(1, 4, 6, 2, 12)
        merged = merging(state)
    assert torch.equal(merged[..., :12], state[:, ::2, ::2, ::2])
    assert torch.equal(merged[..., 12:], state[:, ::2, ::2, 1::2])


# The published count of swin_t, 28,288,354, less the classifier.
def test_parameters_are_those_of_the_published_network():
    encoder = built(2, levels=4)
    assert sum(p.numel() for p in encoder.parameters()) == 28_288_354 - 769_000


@pytest.mark.parametrize("dims", [2, 3])
def test_gradients_reach_all_parameters_at_odd_extents(dims):
    parameters = UNetPlusPlus(
        dimensions=dims, widths=(8, 8, 8), encoder={"name": "swin", "patch": 2, **SMALL}, align="pad"
    )
    network = parameters.build(2, 3).train()
    extents = (21, 16, 13)[:dims]
    logits = network(torch.randn(2, 2, *extents))
    assert [tuple(head.shape) for head in logits] == [(2, 3, *extents)] * 2
    torch.stack([head.square().mean() for head in logits]).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
    pruned = parameters.build(2, 3, head=1)
    assert len(pruned.encoder.stages) == 2


def test_published_names_are_taken_and_others_refused():
    encoder = built(2, **SMALL, channels=3)
    names = {
        "stages.0.reduction.proj.weight": "features.0.0.weight",
        "stages.0.reduction.norm.bias": "features.0.2.bias",
        "stages.0.blocks.1.attn.qkv.weight": "features.1.1.attn.qkv.weight",
        "stages.1.reduction.reduction.weight": "features.2.reduction.weight",
        "stages.1.reduction.norm.weight": "features.2.norm.weight",
        "stages.2.blocks.0.attn.relative_position_bias_table": "features.5.0.attn.relative_position_bias_table",
        "stages.2.blocks.1.mlp.linear2.bias": "features.5.1.mlp.3.bias",
        "stages.2.norm.weight": "norm.weight",
    }
    own = encoder.state_dict()
    published = {published_name(name): torch.randn(tensor.shape) for name, tensor in own.items()}
    assert len(published) == len(own)
    converted = encoder.convert_torchvision({**published, "head.bias": torch.zeros(3)})
    assert all(converted[name] is published[source] for name, source in names.items())
    encoder.load_state_dict(converted)
    fewer = built(2, levels=2, **SMALL).convert_torchvision(published)
    assert not any(".norm.weight" in name and "reduction" not in name for name in fewer)
    with pytest.raises(ConfigError, match=r"they have no 'features\.5\.2\..*swin_t"):
        built(2, **{**SMALL, "depths": (2, 2, 3)}).convert_torchvision(published)
    with pytest.raises(ConfigError, match=r"\(25, 1\).*\(49, 1\).*window 7 and patch 4"):
        built(2, levels=1, **{**SMALL, "window": 4}).convert_torchvision(published)
    with pytest.raises(ConfigError, match="Swin transformers are 2D"):
        built(3, levels=1, **SMALL).convert_torchvision(published)


@pytest.mark.parametrize(
    ("fields", "message"),
    [({"heads": (3, 6)}, "one number per depth"), ({"embed": 50}, "no multiple of its 3")],
)
def test_impossible_heads_are_refused(fields, message):
    with pytest.raises(ValidationError, match=message):
        Swin(**fields)
