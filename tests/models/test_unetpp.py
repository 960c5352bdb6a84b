import itertools

import pytest
import torch
from pydantic import ValidationError
from torch.utils.flop_counter import FlopCounterMode

from volseg.errors import ConfigError, InputError
from volseg.models import MODELS
from volseg.models.nested import node_order
from volseg.models.unetpp import UNetPlusPlus


def parameter_count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def flops(module, batch):
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(batch)
    return counter.get_total_flops()


def test_2d_network_of_the_paper_has_its_parameter_count():
    network = UNetPlusPlus(dimensions=2, norm="none", negative_slope=0).build(in_channels=3, label_count=1)
    assert round(parameter_count(network) / 1e6, 2) == 9.04


def test_nodes_are_those_of_the_paper_and_each_follows_its_inputs():
    order = node_order(4)
    assert set(order) == {(i, j) for i, j in itertools.product(range(5), repeat=2) if i + j <= 4}
    for place, (i, j) in enumerate(order):
        needed = {(i, column) for column in range(j)} | ({(i + 1, j - 1)} if j else set())
        needed |= {(i - 1, 0)} if i and not j else set()
        assert needed <= set(order[:place])


def test_head_l_runs_only_the_nodes_it_needs_and_gives_the_full_networks_output_bit_for_bit():
    torch.manual_seed(1)
    parameters = UNetPlusPlus(widths=(8, 12, 16, 24))
    full = parameters.build(2, 3)
    batch = torch.randn(1, 2, 16, 24, 8)
    full.train()
    heads = [logits.detach() for logits in full(batch)]
    full.eval()
    seen = []
    for head in (1, 2, 3):
        pruned = parameters.build(2, 3, head=head).eval()
        pruned.load_state_dict({name: full.state_dict()[name] for name in pruned.state_dict()})
        assert len(pruned.encoder.stages) == head + 1
        assert set(pruned.nodes) == {f"X{i}_{j}" for i in range(4) for j in range(1, 4) if i + j <= head}
        assert torch.equal(pruned(batch), heads[head - 1])
        seen.append((len(pruned.nodes), parameter_count(pruned), flops(pruned, batch)))
    assert seen == sorted(seen)
    assert len(set(seen)) == 3
    assert [nodes for nodes, _, _ in seen] == [1, 3, 6]
    assert flops(full, batch) == seen[-1][2]


def test_pruned_network_asks_for_smaller_multiples():
    parameters = UNetPlusPlus(widths=(8, 8, 8, 8))
    assert parameters.build(1, 2).extents.divisors == (8, 8, 8)
    assert parameters.build(1, 2, head=1).extents.divisors == (2, 2, 2)


@pytest.mark.parametrize("norm", ["instance", "batch", "group", "none"])
@pytest.mark.parametrize("block", ["plain", "residual"])
@pytest.mark.parametrize("dimensions", [2, 3])
def test_every_norm_and_block_trains(dimensions, norm, block):
    network = UNetPlusPlus(dimensions=dimensions, widths=(8, 16, 24), norm=norm, block=block).build(2, 3)
    batch = torch.randn(2, 2, *(8, 12, 4)[:dimensions])
    heads = network.train()(batch)
    assert [tuple(head.shape) for head in heads] == [(2, 3, *batch.shape[2:])] * 2
    torch.stack([head.square().mean() for head in heads]).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


def test_residual_block_adds_its_input():
    torch.manual_seed(0)
    plain = UNetPlusPlus(dimensions=2, widths=(8, 8), norm="none").build(1, 2)
    residual = UNetPlusPlus(dimensions=2, widths=(8, 8), norm="none", block="residual").build(1, 2)
    residual.load_state_dict(plain.state_dict(), strict=False)
    node, x = residual.encoder.stages[0].block, torch.randn(1, 1, 4, 6)
    before = node.convs[1](node.activation(node.convs[0](x)))
    assert torch.allclose(node(x), node.activation(before + node.project(x)))
    assert not torch.allclose(node(x), plain.encoder.stages[0].block(x))


def test_kernels_and_strides_may_differ_by_axis():
    parameters = UNetPlusPlus(
        widths=(8, 16, 24),
        kernel_sizes=((3, 3, 1), (3, 3, 1), (3, 3, 3)),
        strides=((2, 2, 1), (2, 2, 2)),
    )
    network = parameters.build(1, 2).eval()
    assert network.extents.divisors == (4, 4, 2)
    assert network.encoder.stages[0].block.convs[0].kernel_size == (3, 3, 1)
    assert network(torch.randn(1, 1, 8, 12, 6)).shape == (1, 2, 8, 12, 6)


def test_a_size_that_does_not_fit_is_refused_with_the_one_to_use():
    network = UNetPlusPlus(widths=(8, 8, 8)).build(1, 2)
    with pytest.raises(InputError, match=r"\(5, 6, 7\).*pad the input to \(8, 8, 8\)"):
        network(torch.zeros(1, 1, 5, 6, 7))
    with pytest.raises(InputError, match="3D"):
        network(torch.zeros(1, 1, 8, 8))


def test_without_deep_supervision_there_is_one_head():
    parameters = UNetPlusPlus(dimensions=2, widths=(8, 8, 8), deep_supervision=False)
    network = parameters.build(1, 2)
    assert list(network.heads) == ["2"]
    assert isinstance(network.train()(torch.zeros(1, 1, 8, 8)), torch.Tensor)
    with pytest.raises(ConfigError, match="head 2 only"):
        parameters.build(1, 2, head=1)


@pytest.mark.parametrize(
    "fields",
    [
        {"widths": (8,)},
        {"widths": (8, 16), "strides": ((2, 2),)},
        {"widths": (8, 16), "kernel_sizes": ((3, 3, 3), (2, 3, 3))},
        {"widths": (8, 12), "norm": "group"},
        {"depth": 3},
    ],
)
def test_impossible_parameters_are_refused(fields):
    with pytest.raises(ValidationError):
        UNetPlusPlus(**fields)


def test_no_such_head():
    with pytest.raises(ConfigError, match="heads 1 to 2"):
        UNetPlusPlus(widths=(8, 8, 8)).build(1, 2, head=3)


def test_equals_monai_where_the_structures_coincide():
    """MONAI halves channels while up-sampling except at full resolution: equal for widths w, w, 2w, 4w, 8w."""
    networks = pytest.importorskip("monai.networks.nets")
    torch.manual_seed(2)
    theirs = networks.BasicUNetPlusPlus(
        spatial_dims=3, in_channels=2, out_channels=3, features=(8, 8, 16, 32, 64, 8), deep_supervision=True
    ).eval()
    ours = UNetPlusPlus(widths=(8, 8, 16, 32, 64), negative_slope=0.1).build(2, 3)
    state = {}
    for name, value in theirs.state_dict().items():
        state[monai_name_to_ours(name)] = value
    ours.load_state_dict(state)
    batch = torch.randn(2, 2, 16, 32, 16)
    ours.train()
    with torch.no_grad():
        for mine, reference in zip(ours(batch), theirs(batch), strict=True):
            assert torch.allclose(mine, reference, atol=1e-5)


def monai_name_to_ours(name):
    """conv_1_1.convs.conv_0.adn.N.weight -> nodes.X1_1.norms.0.weight, and so on."""
    block, *middle, kind = name.split(".")
    i, j = block.split("_")[-2:]
    if block.startswith("final"):
        return f"heads.{j}.{kind}"
    if "upsample" in middle:
        return f"ups.X{i}_{j}.conv.{kind}"
    number = next(int(part[-1]) for part in middle if part.startswith("conv_"))
    node = f"nodes.X{i}_{j}" if int(j) else f"encoder.stages.{i}.block"
    return f"{node}.{'norms' if 'adn' in middle else 'convs'}.{number}.{kind}"


@pytest.mark.parametrize(
    "name", [n for n in MODELS.names() if MODELS.get(n).__module__.startswith("volseg.")]
)
@pytest.mark.parametrize("dimensions", [2, 3])
def test_contract_of_every_architecture(name, dimensions, tmp_path):
    from safetensors.torch import load_file, save_file

    architecture = MODELS.build({"name": name, "dimensions": dimensions})
    network = architecture.build(2, 3)
    assert len(network.extents.divisors) == dimensions
    batch = torch.randn(1, 2, *network.extents.divisors)
    outputs = network.train()(torch.cat([batch, batch]).repeat_interleave(2, dim=2))
    outputs = outputs if isinstance(outputs, list) else [outputs]
    outputs[-1].mean().backward()
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    again = MODELS.build(architecture.model_dump(mode="json")).build(2, 3).eval()
    again.load_state_dict(load_file(tmp_path / "w.safetensors"))
    batch = batch.repeat_interleave(2, dim=2)
    with torch.no_grad():
        logits = again(batch)
        assert logits.shape == (1, 3, *batch.shape[2:])
        assert torch.equal(logits, network.eval()(batch))
    with pytest.raises(InputError, match="pad the input to"):
        again(torch.zeros(1, 2, *(d + 1 for d in network.extents.divisors)))
