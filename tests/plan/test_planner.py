from math import prod

import pytest
import yaml

from tests.plan.fingerprints import KINDS, Imagined, fingerprint, label
from volseg.config import load_config
from volseg.datasets import DATASETS, Case
from volseg.datasets.splits import read_splits
from volseg.errors import ConfigError
from volseg.package.fingerprint import Fingerprint
from volseg.plan.device import chosen_target, free_bytes
from volseg.plan.memory import NetworkShape, training_bytes
from volseg.plan.patch import Room, network_plan, start_extents
from volseg.plan.planner import plan_training
from volseg.plan.request import PlanRequest
from volseg.plan.spacing import median_extents
from volseg.plan.write import FINGERPRINT_FILE, PLAN_FILE, plan_text, write_plan
from volseg.train.settings import TrainConfig

GPU = PlanRequest(device="cuda", max_vram=8 << 30)
CPU = PlanRequest(device="cpu", max_ram=8 << 30)


def dataset_for(kind, **fields) -> Imagined:
    print_ = KINDS[kind] if isinstance(kind, str) else kind
    return Imagined(
        names=tuple(label.name for label in print_.labels),
        channels=tuple(c.name for c in print_.channels),
        **fields,
    )


def plan_of(kind, request=GPU, **fields):
    print_ = KINDS[kind] if isinstance(kind, str) else kind
    return plan_training(dataset_for(kind, **fields), print_, request)


@pytest.mark.parametrize(
    ("kind", "request_"),
    [*((kind, GPU) for kind in KINDS), ("abdomen", CPU), ("hippocampus", CPU), ("slices", CPU)],
)
def test_every_kind_gets_configurations_that_can_be_trained(kind, request_):
    plan = plan_of(kind, request_)
    assert plan.chosen in plan.configs
    assert len(plan.notes) >= 8
    for config in plan.configs.values():
        axes = config.architecture.dimensions
        network = config.architecture.build(1, 2)
        patch = config.patch_voxels
        assert all(
            side % divisor == 0 for side, divisor in zip(patch, network.extents.divisors, strict=False)
        )
        assert (patch[2] == 1) == (axes == 2)
        assert config.tile.tile_voxels == patch
        channels = len(KINDS[kind].channels) * (2 * config.tile.slices_around + 1)
        shape = NetworkShape(config.architecture, channels, len(KINDS[kind].labels) + 1, half=request_ is GPU)
        taken = training_bytes(shape, patch, config.batch_size, device="cuda" if request_ is GPU else "cpu")
        assert taken <= 8 << 30
        assert config.batch_size >= 2


@pytest.mark.parametrize(
    ("kind", "names", "chosen"),
    [
        ("abdomen", ["3d", "3d_low", "2d", "2.5d"], "3d"),
        ("hippocampus", ["3d", "2d", "2.5d"], "3d"),
        ("cardiac", ["3d", "2d", "2.5d"], "3d"),
        ("slices", ["2d"], "2d"),
    ],
)
def test_which_variants_there_are(kind, names, chosen):
    plan = plan_of(kind)
    assert list(plan.configs) == names
    assert plan.chosen == chosen


def test_the_hippocampus_plan_holds_the_whole_crop():
    config = plan_of("hippocampus", CPU).config
    assert config.patch_voxels == (40, 56, 40)
    assert config.architecture.widths == (16, 32, 80, 160)
    assert config.batch_size == 2
    assert plan_of("hippocampus").config.batch_size > 2


def test_low_resolution_sees_a_quarter_of_the_case():
    plan = plan_of("lits")
    low, full = plan.configs["3d_low"], plan.configs["3d"]
    respace = {name: next(s for s in c.preprocess if s.name == "respace") for name, c in plan.configs.items()}
    assert respace["3d_low"].antialias
    assert not respace["3d"].antialias
    extents = median_extents(KINDS["lits"], respace["3d_low"].spacing_mm)
    assert 0.25 <= prod(low.patch_voxels) / prod(extents) < 0.35
    assert prod(full.patch_voxels) / (512 * 512 * 432) < 0.25
    assert plan_of("lits", CPU).chosen == "3d_low"
    assert plan_of("lits", CPU.model_copy(update={"resolution": "full"})).chosen == "3d"


def test_two_and_a_half_dimensions():
    plan = plan_of("prostate", GPU.model_copy(update={"dims": "2.5"}))
    assert list(plan.configs) == ["2.5d"]
    assert plan.config.tile.slices_around == 1
    assert plan_of("brats", GPU.model_copy(update={"dims": "2.5"})).config.tile.slices_around == 2


def test_more_memory_gives_larger_patches_and_less_gives_narrower_networks():
    sizes = [
        prod(
            plan_of("lits", GPU.model_copy(update={"max_vram": g << 30, "dims": "3"}))
            .configs["3d"]
            .patch_voxels
        )
        for g in (6, 8, 16, 24)
    ]
    assert sizes == sorted(sizes)
    assert sizes[-1] > 2 * sizes[0]
    small = plan_of("lits", GPU.model_copy(update={"max_vram": 4 << 30, "dims": "3"})).configs["3d"]
    assert small.architecture.widths[0] < 32


def test_what_a_budget_gives_up():
    cheap = {"coarsen": 2.0, "max_base_width": 8, "max_voxels": 40_000, "max_batch_size": 1, "dims": "3"}
    config = plan_of("brats", GPU.model_copy(update=cheap)).configs["3d"]
    assert config.architecture.widths[0] == 8
    assert prod(config.patch_voxels) <= 40_000
    assert config.batch_size == 1
    respace = next(step for step in config.preprocess if step.name == "respace")
    assert respace.spacing_mm == pytest.approx((2, 2, 2), rel=0.03), "3 % at a time"
    assert respace.antialias


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("brats", {"regions": True}, "has no nested regions"),
        ("slices", {"dims": "3"}, "too few for a 3D network"),
        ("brats", {"dims": "2", "resolution": "low"}, "is for 3D networks"),
        ("hippocampus", {"resolution": "low"}, "no low resolution to plan"),
        ("lits", {"max_vram": 1 << 30}, "Allow more memory by --max-vram"),
        ("lits", {"device": "cpu"}, "use --max-ram"),
    ],
)
def test_what_cannot_be_planned(kind, changes, message):
    with pytest.raises(ConfigError, match=message):
        plan_of(kind, GPU.model_copy(update=changes))


def test_regions_have_a_channel_each():
    nested = fingerprint((1, 1, 1), (64, 64, 64), labels=[label("oedema"), label("core", 2)])
    plan = plan_of(nested, GPU.model_copy(update={"regions": True}), nested=True)
    assert plan.config.regions


def test_the_card_says_what_was_seen():
    card = plan_of("lits").config.card
    assert card.name == "some-collection"
    assert card.modality == "CT"
    assert "0.77 x 0.77 x 1 mm" in card.limits
    assert "131 cases" in card.description


def test_start_extents_are_a_cube_in_mm_within_the_case():
    room = Room((0.5, 1.0, 4.0), (10_000, 10_000, 20), 1, 2, True, 1e9, 8 << 30, "cuda")
    first, second, third = start_extents(room)
    assert first == pytest.approx(2 * second, abs=1)
    assert third == 20


def test_a_patch_that_holds_the_case_is_as_large_as_it_in_divisors():
    room = Room((1.0, 1.0, 1.0), (35, 50, 36), 1, 3, True, 1e7, 8 << 30, "cuda")
    plan = network_plan(room, 16, may_narrow=False)
    assert plan.patch_voxels == (40, 56, 40)
    assert plan.whole


def test_the_default_budget_is_said(tmp_path):
    target = chosen_target(PlanRequest(device="cpu"))
    assert "half of the" in target.why
    assert target.device == "cpu"
    assert target.budget_bytes <= 8 << 30
    assert "(the default)" in chosen_target(PlanRequest(device="cuda")).why
    (tmp_path / "meminfo").write_text("MemTotal: 10 kB\nMemAvailable:    4096 kB\n")
    assert free_bytes(tmp_path / "meminfo") == 4 << 20
    assert free_bytes(tmp_path / "nothing") > 1 << 28


@pytest.fixture
def written(tmp_path):
    if "imagined" not in DATASETS.names():
        DATASETS.add(Imagined)
    cases = [Case(f"case_{n:02}", (tmp_path / "x",), tmp_path / "y") for n in range(12)]
    print_ = KINDS["lits"].model_copy(update={"cases": 12, "patients": 12})
    plan = plan_training(dataset_for("lits"), print_, GPU)
    yield write_plan(plan, tmp_path / "plan", cases), tmp_path / "plan", cases
    DATASETS._steps.pop("imagined")


def test_a_written_plan_loads_as_it_was(written):
    plan, folder, cases = written
    files = sorted(path.name for path in folder.iterdir())
    assert files == [
        "fingerprint.json",
        "plan.yaml",
        "plan_2.5d.yaml",
        "plan_2d.yaml",
        "plan_3d_low.yaml",
        "splits.json",
    ]
    for name, config in plan.configs.items():
        file = "plan.yaml" if name == plan.chosen else f"plan_{name}.yaml"
        assert load_config(folder / file, TrainConfig) == config
    assert load_config(folder / PLAN_FILE, TrainConfig) == plan.config
    assert Fingerprint.model_validate_json((folder / FINGERPRINT_FILE).read_text()) == plan.fingerprint
    folds = read_splits(plan.config.split.file, cases)
    assert len(folds) == 5


def test_a_written_plan_is_for_reading(written):
    plan, folder, _ = written
    text = (folder / "plan.yaml").read_text()
    assert text.startswith("# Train with it:  volseg train -c ")
    lines = text.splitlines()
    for field in ("preprocess", "patch_voxels", "architecture", "steps", "augment"):
        at = next(n for n, line in enumerate(lines) if line.startswith(f"{field}:"))
        assert lines[at - 1].startswith("# "), field
    assert max(map(len, lines)) <= 130
    assert "learning_rate: 0.001" in text
    assert "batch_size: 2" in text
    assert "mlflow" not in text, "what is as usual is left out"
    assert set(yaml.safe_load(text)) < set(TrainConfig.model_fields)
    assert plan_text(plan.config, {}, folder) != text
