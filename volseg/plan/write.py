"""A plan as files that people read and edit."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from shlex import quote
from typing import Any, cast

import yaml
from pydantic import BaseModel

from volseg.config import Config
from volseg.datasets import Case
from volseg.datasets.splits import write_splits
from volseg.errors import OutputError
from volseg.package.fingerprint import Fingerprint
from volseg.plan.planner import Plan
from volseg.train.settings import TrainConfig

FINGERPRINT_FILE, PLAN_FILE, SPLITS_FILE = "fingerprint.json", "plan.yaml", "splits.json"

_WIDTH = 110
_ALWAYS = {"batch_size", "validation"}
"""Shown even where they are as usual."""
_IN_FULL = {"split", "architecture", "sampling", "augment", "optimizer", "validation"}
"""Blocks that people edit most: every field is written, also where it is as usual."""


def write_plan(plan: Plan, folder: Path, cases: Sequence[Case]) -> Plan:
    """Write fingerprint.json, plan.yaml (the chosen one), plan_<name>.yaml (each other) and splits.json.

    splits.json is left out where there is a single patient. Files of an earlier plan are replaced.

    Args:
        plan: as made by plan_training.
        folder: made if it is not there.
        cases: those of the collection, for the split.

    Returns:
        The plan as written: its configurations name the fingerprint and the splits. Each file loads as its configuration.

    Raises:
        OutputError: the folder cannot be written.
    """
    fingerprint = write_fingerprint(plan.fingerprint, folder)
    try:
        splits = _write_splits(plan, folder, cases)
        files = {"fingerprint": fingerprint.resolve()}
        configs = {
            name: config.model_copy(
                update={**files, "split": config.split.model_copy(update={"file": splits})}
            )
            for name, config in plan.configs.items()
        }
        for name, config in configs.items():
            path = folder / (PLAN_FILE if name == plan.chosen else f"plan_{name}.yaml")
            path.write_text(plan_text(config, plan.reasons.get(name, {}), path), encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{folder}: the plan cannot be written ({error.strerror}).") from error
    return replace(plan, configs=configs)


def write_fingerprint(fingerprint: Fingerprint, folder: Path) -> Path:
    """Write fingerprint.json and give its path; the folder is made if it is not there.

    Raises:
        OutputError: the folder cannot be written.
    """
    path = folder / FINGERPRINT_FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(fingerprint.model_dump_json(indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{folder}: the plan cannot be written ({error.strerror}).") from error
    return path


def plan_text(config: TrainConfig, reasons: Mapping[str, str], path: Path) -> str:
    """YAML that loads as the configuration: a comment above each block that was decided, fields as usual left out."""
    lines = [
        f"# Train with it:  volseg train -c {quote(str(path))} -o RUN",
        "# Change what you like; lines that are left out have their defaults.",
    ]
    for name in type(config).model_fields:
        value = getattr(config, name)
        if name in reasons:
            lines += ["", *_comment(reasons[name])]
        elif name not in _ALWAYS and _is_usual(config, name):
            continue
        lines.append(_yaml(name, _in_full(value) if name in _IN_FULL else _shown(value)))
    return "\n".join(lines) + "\n"


def _write_splits(plan: Plan, folder: Path, cases: Sequence[Case]) -> Path | None:
    split = plan.config.split
    if split.fold == "all":
        return None
    path = folder / SPLITS_FILE
    write_splits(path, cases, split.folds, split.seed)
    return path.resolve()


def _comment(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent="# ", subsequent_indent="# ", break_long_words=False)


def _yaml(name: str, value: Any) -> str:
    """One field: a table line by line, its lists within the line."""
    if isinstance(value, dict) and value:
        rows = [_yaml(str(key), item) for key, item in cast(dict[Any, Any], value).items()]
        return "\n".join([f"{name}:", *(textwrap.indent(row, "  ") for row in rows)])
    flow = None if isinstance(value, list) else False
    text = yaml.safe_dump(
        {name: value}, sort_keys=False, allow_unicode=True, default_flow_style=flow, width=_WIDTH
    )
    return text.rstrip("\n")


def _is_usual(model: BaseModel, name: str) -> bool:
    """Whether a field has its default."""
    field = type(model).model_fields[name]
    return not field.is_required() and getattr(model, name) == field.get_default(call_default_factory=True)


def _in_full(value: Any) -> Any:
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else _shown(value)


def _shown(value: Any) -> Any:
    """A value as YAML writes it; of steps and blocks only the name and what is not as usual."""
    if isinstance(value, BaseModel):
        named = [] if isinstance(value, Config) else ["name"]
        kept = [name for name in type(value).model_fields if name not in named and not _is_usual(value, name)]
        present = [name for name in named if name in type(value).model_fields]
        return {name: _shown(getattr(value, name)) for name in (*present, *kept)}
    if isinstance(value, Mapping):
        return {str(key): _shown(item) for key, item in cast(Mapping[Any, Any], value).items()}
    if isinstance(value, list | tuple):
        return [_shown(item) for item in cast(Sequence[Any], value)]
    return str(value) if isinstance(value, Path) else value
