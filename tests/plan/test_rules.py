"""The single rules, on hand-made fingerprints of well-known kinds of collections."""

import numpy as np
import pytest

from tests.plan.fingerprints import KINDS, MR, channel, fingerprint, label, same
from volseg.labels import LabelTable
from volseg.plan.fingerprint import recognised_modality
from volseg.plan.intensities import background_is_zeroed, crop_steps, intensity_steps
from volseg.plan.recipe import (
    augment_settings,
    mirror_axes,
    names_a_side,
    optimizer_settings,
    sampling_settings,
    split_settings,
    step_count,
)
from volseg.plan.spacing import (
    coarsened,
    coarsened_once,
    median_extents,
    needs_smoothing,
    orientation_codes,
    slice_spacing,
    target_spacing,
    turned,
)
from volseg.plan.topology import topology, widths


@pytest.mark.parametrize(
    ("kind", "spacing", "codes"),
    [
        ("abdomen", (0.8, 0.8, 2.5), "RAS"),  # thick: the 10th percentile
        ("lits", (0.77, 0.77, 1.0), "RAS"),
        ("brats", (1, 1, 1), "RAS"),
        ("cardiac", (1.4, 1.4, 5), "RAS"),
        ("prostate", (0.6, 0.6, 3.6), "RAS"),
        ("sagittal", (4.4, 0.7, 0.7), "ASR"),  # the thick axis runs right-left and becomes the last
    ],
)
def test_target_spacing_and_orientation(kind, spacing, codes):
    assert target_spacing(KINDS[kind]) == spacing
    assert orientation_codes(spacing) == codes
    assert turned(spacing, codes)[2] == max(spacing)


def test_a_thick_axis_is_not_made_finer_than_the_others():
    thin = fingerprint((1.4, 1.4, 10), (240, 256, 12), finest=(1.4, 1.4, 0.5))
    assert target_spacing(thin) == (1.4, 1.4, 1.4)
    long = fingerprint((1.4, 1.4, 10), (240, 256, 90), finest=(1.4, 1.4, 5))
    assert target_spacing(long) == (1.4, 1.4, 10), "many thick slices are no reason to make up more"
    assert slice_spacing(KINDS["cardiac"]) == (1.4, 1.4, 10)


def test_a_coronal_scan_is_turned_too():
    assert orientation_codes((0.8, 3.0, 0.8)) == "RSA"
    assert turned((0.8, 3.0, 0.9), "RSA") == (0.8, 0.9, 3.0)
    assert orientation_codes((1.1, 1.0, 1.0)) == "RAS"


def test_extents_are_those_of_the_cropped_case():
    assert median_extents(KINDS["abdomen"], (0.8, 0.8, 2.5)) == (512, 512, 200)
    cropped = median_extents(KINDS["brats"], (1, 1, 1))
    assert np.prod(cropped) == pytest.approx(0.33 * 240 * 240 * 155, rel=0.02)


def test_smoothing_is_for_targets_coarser_than_the_data():
    assert not needs_smoothing(KINDS["lits"], (0.77, 0.77, 1.0))
    assert not needs_smoothing(KINDS["lits"], (0.9, 0.9, 1.1))
    assert needs_smoothing(KINDS["lits"], (0.77, 0.77, 1.3))


def test_coarsening_reaches_the_thick_axis_last():
    spacing = (1.0, 1.0, 4.0)
    for _ in range(20):
        spacing = coarsened_once(spacing)
    assert spacing[2] == 4.0
    assert spacing[0] == pytest.approx(1.03**20, rel=1e-3)
    for _ in range(10):
        spacing = coarsened_once(spacing)
    assert spacing[2] > 4.0
    assert spacing[2] / spacing[0] < 2.1


@pytest.mark.parametrize(
    ("spacing", "extents", "strides", "kernels"),
    [
        ((1, 1, 1), (40, 56, 40), ["222"] * 3, ["333"] * 4),
        ((0.8, 0.8, 5), (192, 192, 24), ["221", "221", "222", "222"], ["331", "331", "333", "333", "333"]),
        ((1.4, 1.4, 5), (192, 208, 20), ["221", "222", "222", "221"], ["331", *["333"] * 4]),
        ((1, 1, 1), (240, 240, 16), ["222", "222", "221", "221"], ["333"] * 5),
        ((1, 1, 10), (96, 96, 6), ["221"] * 4, ["331"] * 3 + ["333"] * 2),
        ((0.5, 0.5), (608, 512), ["22"] * 5, ["33"] * 6),
        ((1, 1, 1), (6, 5, 4), ["211"], ["333"] * 2),
    ],
)
def test_topology(spacing, extents, strides, kernels):
    shape = topology(spacing, extents)
    assert ["".join(map(str, row)) for row in shape.strides] == strides
    assert ["".join(map(str, row)) for row in shape.kernel_sizes] == kernels
    fitted = shape.fitted(extents)
    assert all(f % d == 0 and 0 <= f - e < d for f, e, d in zip(fitted, extents, shape.divisors, strict=True))


def test_widths_double_up_to_a_cap():
    assert widths(32, 5, 3) == (32, 64, 128, 256, 320)
    assert widths(32, 6, 2) == (32, 64, 128, 256, 512, 512)
    assert widths(16, 4, 3) == (16, 32, 80, 160)
    assert all(width % 8 == 0 for width in widths(24, 5, 3))


def test_ct_is_scaled_by_the_training_set():
    (step,) = intensity_steps(KINDS["abdomen"])
    assert step.name == "standardise"
    (scale,) = step.channels
    assert (scale.low, scale.high, scale.mean, scale.deviation) == (-100, 240, 80, 40)
    masked = fingerprint((1, 1, 1), (100, 100, 100), nonzero=0.3)
    assert crop_steps(masked) == (), "a zero is water in CT"


def test_mr_is_scaled_by_itself():
    assert [step.name for step in intensity_steps(KINDS["hippocampus"])] == ["clip_percentiles", "zscore"]
    steps = intensity_steps(KINDS["prostate"])
    assert [step.name for step in steps] == ["zscore"]
    assert steps[0].region == "all"
    assert background_is_zeroed(KINDS["brats"])
    assert [step.name for step in crop_steps(KINDS["brats"])] == ["crop_nonzero"]
    assert [step.region for step in intensity_steps(KINDS["brats"])] == ["nonzero"]


def test_mixed_channels_are_each_scaled_in_their_way():
    mixed = fingerprint((1, 1, 1), (100, 100, 100), channels=[channel(), MR])
    (step,) = intensity_steps(mixed)
    assert step.channels[0] is not None
    assert step.channels[1] is None


@pytest.mark.parametrize(
    ("name", "lowest", "integer", "modality"),
    [
        ("CT", 0, False, "CT"),
        ("0", -1024, True, "CT"),
        ("0", -1024, False, ""),
        ("0", 0, True, ""),
        ("MRI", 0, True, "MR"),
        ("t1ce", 0, True, "MR"),
        ("T2-FLAIR", 0, True, "MR"),
        ("PET", 0, False, "PT"),
        ("contact", 0, True, ""),
    ],
)
def test_modality_from_name_or_values(name, lowest, integer, modality):
    assert recognised_modality(name, same(lowest), same(1500), integer=integer) == modality


def test_lesions_are_sampled_piece_by_piece_and_specks_are_not():
    assert sampling_settings(KINDS["lits"]).component_fraction == 0.5
    assert sampling_settings(KINDS["brats"]).component_fraction == 0
    specks = fingerprint((1, 1, 1), (50, 50, 50), labels=[label(pieces=40, largest_share=0.99)])
    assert sampling_settings(specks).component_fraction == 0


def test_rare_labels_weigh_more():
    rare = fingerprint(
        (1, 1, 1),
        (50, 50, 50),
        labels=[label("a"), label("b", 2, present=40), label("c", 3, present=3), label("d", 4, present=0)],
    )
    assert sampling_settings(rare).label_weights == {"b": 2.5, "c": 3.0}


@pytest.mark.parametrize(
    ("names", "sided"),
    [
        (("liver", "lesion"), []),
        (("kidney_left", "kidney_right"), ["kidney_left", "kidney_right"]),
        (("L. lung",), ["L. lung"]),
        (("upright", "cleft", "alright"), []),
        (("Hippocampus lh",), ["Hippocampus lh"]),
        (("LeftVentricle", "rvMyocardium"), ["LeftVentricle"]),
        (("LV", "MYO", "RV"), ["LV", "RV"]),
        (("rkid", "lkid", "liver"), ["rkid", "lkid"]),
        (
            ("leftkidney", "rightkidney", "kidneyR 2", "kidneyL 2"),
            ["leftkidney", "rightkidney", "kidneyR 2", "kidneyL 2"],
        ),
        (("LV", "myocardium"), []),
    ],
)
def test_sides(names, sided):
    labels = LabelTable.from_names(names)
    assert names_a_side(labels) == sided
    assert mirror_axes(labels, "RAS") == (() if sided else (0,))


def test_the_mirrored_axis_follows_the_orientation():
    labels = LabelTable.from_names(["liver"])
    assert mirror_axes(labels, "ASR") == (2,)
    assert mirror_axes(labels, "ASR", axes=2) == ()
    assert mirror_axes(labels, "ARS") == (1,)


def test_thick_slices_are_turned_less():
    assert augment_settings((1, 1, 1), (0,), "CT", slices=False).rotation_degrees == 25
    thick = augment_settings((1, 1, 5), (), "MR", slices=False)
    assert (thick.rotation_degrees, thick.mirror_axes, thick.shading) == (15, (), 0.2)
    assert augment_settings((1, 1, 5), (), "CT", slices=True).rotation_degrees == 25


def test_steps_folds_and_warm_up():
    assert step_count(208 * 63_000, (40, 56, 40), 2, "cpu") == 6_000
    assert step_count(100 * 16_000_000, (96, 96, 96), 2, "cpu") == 20_000
    assert step_count(30 * 16_000_000, (128, 128, 128), 2, "cuda") == 10_000
    assert step_count(131 * 16_000_000, (96, 96, 96), 2, "cuda") == 60_000
    assert optimizer_settings(6000).warmup_steps == 200
    assert split_settings(208, 3).fold == 3
    assert split_settings(3, 0).folds == 3
    assert split_settings(1, 0).fold == "all"


@pytest.mark.parametrize(
    ("spacing", "extents", "factor", "expected"),
    [
        ((1, 1, 1), (240, 240, 155), 2.0, (2, 2, 2)),
        ((1, 1, 1), (512, 512, 12), 2.0, (2.83, 2.83, 1)),  # few slices stay
        ((0.8, 0.8, 5), (512, 512, 100), 2.0, (2.26, 2.26, 5)),  # fine axes first
        ((5, 0.8, 0.8), (40, 512, 512), 1.5, (5, 1.47, 1.47)),
        ((1, 1, 1), (20, 30, 35), 4.0, (1.25, 1.875, 2.19)),  # as far as 16 voxels
    ],
)
def test_coarser_voxels_keep_few_slices_and_take_fine_axes_first(spacing, extents, factor, expected):
    found = coarsened(spacing, factor, extents)
    assert found == pytest.approx(expected, rel=0.04)
    assert all(n * a / b >= 15.9 for n, a, b in zip(extents, spacing, found, strict=True) if b > a)


def test_slices_are_coarsened_within_their_plane():
    assert coarsened((1, 1, 1), 2.0, (300, 300, 300), fixed=1) == pytest.approx((2, 1, 2), rel=0.04)
