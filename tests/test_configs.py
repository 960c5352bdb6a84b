from pathlib import Path

import pytest
import yaml

from volseg.config import Config, check_overrides, dump_config, load_config
from volseg.errors import ConfigError
from volseg.pretrain.settings import PretrainConfig
from volseg.train.settings import TrainConfig

ROOT = Path(__file__).parents[1]
SCHEMAS = {"train": TrainConfig, "pretrain": PretrainConfig}
ALL = sorted((ROOT / "configs").rglob("*.yaml"))


def test_there_are_configs():
    assert len(ALL) >= 2


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)
def test_every_shipped_config_loads_and_survives_a_round_trip(path, tmp_path):
    schema = SCHEMAS[yaml.safe_load(path.read_text())["kind"]]
    config = load_config(path, schema)
    copy = tmp_path / "copy.yaml"
    copy.write_text(dump_config(config))
    assert load_config(copy, schema) == config


def test_all_mistakes_are_told_at_once_with_suggestions(tmp_path):
    text = (ROOT / "configs/smoke/train_phantom.yaml").read_text()
    text = text.replace("steps: 160", "setps: 160\nbatch_size: 0").replace("keep_largest", "keep_larges")
    text = text.replace("warmup_steps: 10", "warmup: 10").replace("  modality: MR\n", "")
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(path, TrainConfig)
    message = str(caught.value)
    assert "bad.yaml has 6 problem(s)" in message
    assert "setps: no such setting. Did you mean 'steps'?" in message
    assert "steps: is required and missing" in message
    assert "batch_size = 0" in message
    assert "Did you mean 'keep_largest'?" in message
    assert "optimizer.warmup: no such setting. Did you mean 'warmup_steps'?" in message
    assert "card.modality: is required and missing" in message


class Inner(Config):
    rate: float = 1.0
    names: tuple[str, ...] = ()


class Outer(Config):
    inner: Inner = Inner()
    flag: bool = False


def test_overrides_reach_nested_fields(tmp_path):
    path = tmp_path / "outer.yaml"
    path.write_text("flag: false\n")
    config = load_config(path, Outer, ["inner.rate=1e-3", "flag=true", "inner.names=[a, b]"])
    assert config == Outer(inner=Inner(rate=0.001, names=("a", "b")), flag=True)


def test_overrides_are_checked_before_there_is_a_file():
    check_overrides(["steps=5", "optimizer.learning_rate=1", "architecture.widths=[8, 8]"], TrainConfig)
    with pytest.raises(ConfigError) as caught:
        check_overrides(["setps=5", "optimizer.warmup=1", "seed=0"], TrainConfig)
    assert "has 2 problem(s)" in str(caught.value)
    assert "setps: no such setting. Did you mean 'steps'?" in str(caught.value)
    assert "optimizer.warmup: no such setting. Did you mean 'warmup_steps'?" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "override", "message"),
    [
        ("flag: [", "", "is not YAML"),
        ("- 1", "", "found list"),
        ("flag: false", "flag", "no override"),
        ("flag: false", "flag.deep=1", "single value"),
        ("flag: false", "flag=[", "is not YAML"),
    ],
)
def test_unreadable_configs_are_refused(tmp_path, content, override, message):
    path = tmp_path / "outer.yaml"
    path.write_text(content)
    with pytest.raises(ConfigError, match=message):
        load_config(path, Outer, [override] if override else [])


def test_missing_config(tmp_path):
    with pytest.raises(ConfigError, match=r"nothing\.yaml: cannot be read"):
        load_config(tmp_path / "nothing.yaml", Outer)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("attention_gate=true", "attention_gate: no such parameter. Did you mean 'attention_gates'?"),
        (
            "encoder=resnet",
            "an encoder is written as {name: ..., parameter: ...}, found 'resnet'. Write {name: resnet}.",
        ),
        (
            "encoder={layers: 18}",
            "Known names: efficientnet, mobilenetv3, plain, resnet, resnext, swin, vgg16.",
        ),
        ("encoder={name: resnet, layers: 20}", "layers: Input should be 18, 34, 50, 101 or 152, found 20"),
        ("strides=[[2, 2, 2]]", "architecture 'unetpp': strides needs 2 rows of 3 numbers"),
        ("width_multiplier=.inf", "width_multiplier: Input should be a finite number, found inf"),
        ("self_attention_gib=.inf", "self_attention_gib: Input should be a finite number, found inf"),
    ],
)
def test_a_mistake_in_the_architecture_is_told_in_a_line(override, message):
    with pytest.raises(ConfigError) as caught:
        load_config(ROOT / "configs/smoke/train_phantom.yaml", TrainConfig, [f"architecture.{override}"])
    first, line = str(caught.value).splitlines()
    assert "1 problem(s)" in first
    assert line.startswith("  architecture: ")
    assert message in line
    assert "Value error" not in line


def test_an_item_that_is_wrong_is_told_once():
    with pytest.raises(ConfigError) as caught:
        load_config(ROOT / "configs/smoke/train_phantom.yaml", TrainConfig, ["architecture.widths=[0, 8]"])
    assert str(caught.value).endswith("'unetpp': widths.0: Input should be greater than 0, found 0")


def test_what_is_wrong_with_settings_together_is_told_without_a_place():
    with pytest.raises(ConfigError) as caught:
        load_config(ROOT / "configs/smoke/pretrain_phantom.yaml", PretrainConfig, ["batch_size=2"])
    assert str(caught.value).splitlines()[1].startswith("  the contrastive task compares pairs")
