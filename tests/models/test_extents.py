import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from volseg.errors import InputError
from volseg.models.extents import ExtentRule, extent_rule
from volseg.models.places import nested_places, single_places
from volseg.models.unet import UNet
from volseg.models.unetpp import UNetPlusPlus


class AnyExtents:
    def check(self, extents):
        pass

    def output(self, extents):
        return (1,) * len(extents)


def natural_output(network, extents):
    """Extents of the last node for an input, found by running the network; None where it does not run or loses voxels."""
    seen = []
    handle = network.nodes[network.places[-1].name].register_forward_hook(
        lambda module, inputs, output: seen.append(tuple(output.shape[2:]))
    )
    try:
        network(torch.empty(1, 1, *extents, device="meta"))
    except RuntimeError:
        return None
    finally:
        handle.remove()
    return seen[0] if min(seen[0]) > 0 else None


def exact_pools(network):
    def check(stage, inputs):
        steps = stage.pool.stride if isinstance(stage.pool, torch.nn.MaxPool2d) else (1, 1)
        if any(extent % step for extent, step in zip(inputs[0].shape[2:], steps, strict=True)):
            raise RuntimeError("voxels at the end would be lost")

    for stage in network.encoder.stages:
        stage.register_forward_pre_hook(check)


@st.composite
def topologies(draw, most_depth):
    depth = draw(st.integers(1, most_depth))
    kernels = st.tuples(st.sampled_from([1, 3, 5]), st.sampled_from([1, 3]))
    steps = st.tuples(st.sampled_from([1, 2, 3]), st.sampled_from([1, 2]))
    return {
        "dimensions": 2,
        "norm": "none",
        "widths": (2,) * (depth + 1),
        "kernel_sizes": tuple(draw(kernels) for _ in range(depth + 1)),
        "strides": tuple(draw(steps) for _ in range(depth)),
        "padding": draw(st.sampled_from(["same", "valid"])),
    }


def assert_exactly_the_accepted_extents_work(fields, architecture):
    with torch.device("meta"):
        network = architecture(**fields).build(1, 1).eval()
    rule, network.extents = network.extents, AnyExtents()
    exact_pools(network)
    for axis in range(2):
        around = min(2 * rule.divisors[axis], 40)
        for extent in range(max(1, rule.least[axis] - around), rule.least[axis] + around + 1):
            extents = list(rule.least)
            extents[axis] = extent
            extents = tuple(extents)
            expected = rule.output(extents) if rule.fitting(extents) == extents else None
            assert natural_output(network, extents) == expected, (fields, extents)


@given(topologies(most_depth=2), st.sampled_from([UNet, UNetPlusPlus]))
@example(
    {
        "dimensions": 2,
        "norm": "none",
        "widths": (2, 2, 2),
        "kernel_sizes": ((3, 5), (1, 1), (1, 3)),
        "strides": ((1, 2), (2, 1)),
        "padding": "valid",
    },
    UNetPlusPlus,
)
@settings(max_examples=8, deadline=None)
def test_a_network_runs_on_exactly_the_extents_that_its_rule_accepts(fields, architecture):
    assert_exactly_the_accepted_extents_work(fields, architecture)


@pytest.mark.slow
@given(topologies(most_depth=5), st.sampled_from([UNet, UNetPlusPlus]))
@settings(max_examples=30, deadline=None)
def test_deep_networks_run_on_exactly_the_extents_that_their_rules_accept(fields, architecture):
    assert_exactly_the_accepted_extents_work(fields, architecture)


@given(
    topologies(most_depth=2),
    st.sampled_from(["transposed", "pixelshuffle", "nearest"]),
    st.sampled_from(["last", "average", "fuse"]),
    st.booleans(),
    st.data(),
)
@settings(max_examples=20, deadline=None)
def test_a_valid_network_sees_a_part_as_it_sees_the_whole(fields, upsample, output, gates, data):
    fields = fields | {"padding": "valid", "upsample": upsample, "output": output, "attention_gates": gates}
    torch.manual_seed(3)
    architecture = data.draw(st.sampled_from([UNet, UNetPlusPlus]))
    network = architecture(**fields).build(1, 2).eval()
    rule = network.extents
    shift = [data.draw(st.integers(0, 3)) * divisor for divisor in rule.divisors]
    part = [
        least + data.draw(st.integers(0, 2)) * divisor
        for least, divisor in zip(rule.least, rule.divisors, strict=True)
    ]
    extents = tuple(s + p + d for s, p, d in zip(shift, part, rule.divisors, strict=True))
    image = torch.randn(1, 1, *extents)
    i, j = shift
    with torch.no_grad():
        whole = network(image)
        cut = network(image[:, :, i : i + part[0], j : j + part[1]])
    assert whole.shape[2:] == rule.output(extents)
    assert cut.shape[2:] == rule.output(tuple(part))
    expected = whole[:, :, i : i + cut.shape[2], j : j + cut.shape[3]]
    torch.testing.assert_close(cut, expected, rtol=1e-5, atol=1e-5)


def test_the_rule_of_the_network_of_2015():
    rule = extent_rule([(1, 1), *[(2, 2)] * 4], [(4, 4)] * 5, single_places(4), exact=True)
    assert rule == ExtentRule((16, 16), (12, 12), (92, 92), (188, 188))
    assert rule.output((572, 572)) == (388, 388)
    assert rule.fitting((573, 100)) == (588, 188)


def test_an_encoder_that_begins_at_half_resolution_doubles_the_divisors():
    rule = extent_rule([(2, 2, 1), (2, 1, 1)], [(0, 0, 0)] * 2, nested_places(1), exact=True)
    assert rule == ExtentRule.multiples_of((4, 2, 1))
    loose = extent_rule([(2, 2, 1), (2, 1, 1)], [(0, 0, 0)] * 2, nested_places(1), exact=False)
    assert loose.fitting((9, 1, 1)) == (9, 2, 1)


def test_a_wrong_input_is_refused_in_one_line():
    rule = ExtentRule((16, 8), (12, 0), (92, 0), (188, 8))
    rule.check((204, 24))
    with pytest.raises(InputError, match=r"^extents \(200, 25\) .* pad the input to \(204, 32\)\.$"):
        rule.check((200, 25))
    with pytest.raises(InputError, match=r"^this network is 2D; found an input of 3 axes, \(204, 24, 1\)\.$"):
        rule.check((204, 24, 1))
