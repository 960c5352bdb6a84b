import itertools

import pytest
import torch
from pydantic import ValidationError
from torch.utils.flop_counter import FlopCounterMode

from volseg.errors import ConfigError, InputError
from volseg.models.places import node_order
from volseg.models.unetpp import UNetPlusPlus
from volseg.train.losses.heads import head_weights
from volseg.train.priors import start_at_shares
from volseg.train.settings import HeadsConfig


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


@pytest.mark.parametrize("norm", ["instance", "batch", "group", "layer", "none"])
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


def test_fuse_starts_as_the_mean_and_training_ends_with_it():
    fields = {"dimensions": 2, "widths": (4, 6, 8), "norm": "none"}
    fuse = UNetPlusPlus(**fields, output="fuse").build(1, 3)
    average = UNetPlusPlus(**fields, output="average").build(1, 3)
    average.load_state_dict({name: fuse.state_dict()[name] for name in average.state_dict()})
    image = torch.randn(2, 1, 8, 12)
    *heads, fused = fuse.train()(image)
    assert len(heads) == 2
    torch.testing.assert_close(fused, torch.stack(heads).mean(dim=0))
    torch.testing.assert_close(fuse.eval()(image), fused)
    torch.testing.assert_close(average.eval()(image), fused)
    assert len(average.train()(image)) == 2


def test_fuse_pruned_gives_its_last_head():
    parameters = UNetPlusPlus(dimensions=2, widths=(4, 6, 8), output="fuse")
    full, pruned = parameters.build(1, 2), parameters.build(1, 2, head=1)
    pruned.load_state_dict({name: full.state_dict()[name] for name in pruned.state_dict()})
    image = torch.randn(1, 1, 8, 12)
    assert torch.equal(pruned.eval()(image), full.train()(image)[0])


@pytest.mark.parametrize("output", ["last", "average", "fuse"])
def test_every_output_starts_at_the_shares_of_the_labels(output):
    network = UNetPlusPlus(dimensions=2, widths=(4, 6, 8), output=output).build(1, 3).eval()
    shares = torch.tensor([0.9, 0.07, 0.03])
    start_at_shares(network, shares, exclusive=True)
    with torch.no_grad():
        for head in network.heads.values():
            head.weight.zero_()
        found = network(torch.randn(1, 1, 8, 8)).softmax(dim=1)
    torch.testing.assert_close(found, shares.reshape(1, 3, 1, 1).expand_as(found))


def test_the_fused_logits_weigh_most_in_the_loss():
    weights = head_weights(3, HeadsConfig(schedule="fixed", decay=0.5), 0.0)
    assert weights == sorted(weights)
    assert sum(weights) == pytest.approx(1)


def test_names_of_the_weights_are_those_of_saved_packages():
    parameters = UNetPlusPlus(dimensions=2, widths=(4, 6), attention_gates=True, self_attention_levels=(1,))
    stems = {name.rsplit(".", 1)[0] for name in parameters.build(1, 2).state_dict()}
    blocks = ["encoder.stages.0.block", "encoder.stages.1.block", "nodes.X0_1"]
    assert stems == {
        f"{block}.{part}.{n}" for block in blocks for part in ("convs", "norms") for n in (0, 1)
    } | {
        *(f"gates.X0_1.{part}" for part in ("skip", "gating", "psi")),
        *(f"attentions.1.{part}" for part in ("position", "norm", "queries_keys_values", "join")),
        *(f"attentions.1.mlp.{n}" for n in (0, 1, 3)),
        "ups.X0_1.conv",
        "heads.1",
    }


def test_projected_skips_change_what_is_skipped_not_what_is_up_sampled():
    network = UNetPlusPlus(dimensions=2, widths=(4, 6, 8), project_skips=True).build(1, 2)
    assert list(network.projections) == ["0", "1"]
    assert network.train()(torch.randn(1, 1, 8, 12))[-1].shape == (1, 2, 8, 12)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"widths": (8, 8, 0)}, "greater than 0"),
        ({"kernel_sizes": ((2, 3), (3, 3), (3, 3))}, "kernel_sizes must be positive and odd, found"),
        ({"kernel_sizes": ((3, 3), (3, 3))}, "kernel_sizes needs 3 rows of 2 numbers, found"),
        ({"strides": ((2, 0), (2, 2))}, "strides must be positive, found"),
        ({"widths": (8, 12), "norm": "group"}, "group norm needs widths that are multiples of 8, found"),
        ({"self_attention_levels": (3,)}, "self_attention_levels must be 0 to 2, found"),
        (
            {"output": "fuse", "deep_supervision": False},
            "output: fuse needs the heads of deep_supervision: true",
        ),
        (
            {"padding": "valid", "upsample": "linear", "align": "pad"},
            "none of whose parts pads; change upsample and align, or",
        ),
        ({"padding": "valid", "block": "residual"}, "change block, or use padding: same"),
        ({"padding": "valid", "attention": "spatial"}, "change attention, or use padding: same"),
        (
            {"padding": "valid", "self_attention_levels": (2,)},
            "change self_attention_levels, or use padding: same",
        ),
        ({"widths": (8,) * 17}, "the encoder 'plain' has at most 16 levels, found 17 widths"),
        ({"encoder": {"name": "plane"}}, "no encoder called 'plane'. Did you mean 'plain'"),
    ],
)
def test_each_mistake_is_one_readable_line(fields, message):
    with pytest.raises(ValidationError) as caught:
        UNetPlusPlus(**{"dimensions": 2, "widths": (8, 8, 8)} | fields)
    (problem,) = caught.value.errors()
    assert message in problem["msg"]
    assert "\n" not in problem["msg"]


@pytest.mark.slow
def test_every_part_compiles():
    parameters = UNetPlusPlus(
        dimensions=2, widths=(8, 8, 8), attention="scse", attention_gates=True, self_attention_levels=(2,)
    )
    network = parameters.build(1, 2).eval()
    image = torch.randn(1, 1, 8, 12)
    compiled = torch.compile(network, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(image), network(image))
