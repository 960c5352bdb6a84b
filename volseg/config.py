"""Configuration files: YAML in, one closed and frozen pydantic model out, every mistake reported at once."""

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar, cast

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from volseg.errors import ConfigError


class Config(BaseModel):
    """Base of all configuration classes: closed and frozen; each default is written here, once."""

    model_config = ConfigDict(frozen=True, extra="forbid")


ConfigT = TypeVar("ConfigT", bound=Config)


def load_config(path: Path, schema: type[ConfigT], overrides: Sequence[str] = ()) -> ConfigT:
    """Read a YAML file, apply overrides such as "optimizer.learning_rate=1e-3", and check it.

    Raises:
        ConfigError: not a file, not YAML, or any field wrong; the message lists every mistake with a suggestion.
    """
    try:
        fields: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read ({error.strerror}); give the path of a YAML file."
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is not YAML: {error}") from None
    if not isinstance(fields, dict):
        raise ConfigError(f"{path}: expected `name: value` lines, found {type(fields).__name__}.")
    document = cast(dict[str, Any], fields)
    for override in overrides:
        _apply_override(document, override)
    return check_config(document, schema, source=str(path))


def override_config(config: ConfigT, overrides: Sequence[str], *, source: str) -> ConfigT:
    """A configuration with overrides applied, checked again; `source` names it in messages.

    Raises:
        ConfigError: any field is wrong now; the message lists every mistake.
    """
    document = config.model_dump(mode="json")
    for override in overrides:
        _apply_override(document, override)
    return check_config(document, type(config), source=source)


def check_overrides(overrides: Sequence[str], schema: type[Config]) -> None:
    """Refuse overrides of settings that a schema does not have, before there is a file to change.

    Raises:
        ConfigError: listing every mistake at once.
    """
    problems: list[str] = []
    for override in overrides:
        here: Any = schema
        for part in override.partition("=")[0].split("."):
            if not (
                isinstance(here, type) and issubclass(here, Config)
            ):  # a step's settings depend on its name
                break
            if part not in here.model_fields:
                problems.append(_unknown(override.partition("=")[0], part, list(here.model_fields)))
                break
            here = here.model_fields[part].annotation
    if problems:
        raise ConfigError(f"the command line has {len(problems)} problem(s):\n  " + "\n  ".join(problems))


def check_config(fields: dict[str, Any], schema: type[ConfigT], *, source: str) -> ConfigT:
    """Validate fields against a schema; `source` names them in messages.

    Raises:
        ConfigError: listing every mistake at once.
    """
    try:
        return schema.model_validate(fields)
    except ValidationError as error:
        problems = [_describe(problem, schema) for problem in error.errors()]
        raise ConfigError(f"{source} has {len(problems)} problem(s):\n  " + "\n  ".join(problems)) from None


def dump_config(config: Config) -> str:
    """The resolved configuration as YAML, every default included."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _apply_override(document: dict[str, Any], override: str) -> None:
    name, separator, value = override.partition("=")
    if not separator or not name:
        raise ConfigError(f"'{override}' is no override; write it as name.of.field=value.")
    *parents, last = name.split(".")
    here = document
    for parent in parents:
        child = here.setdefault(parent, {})
        if not isinstance(child, dict):
            raise ConfigError(f"'{override}': {parent} is a single value in the file, so it has no '{last}'.")
        here = cast(dict[str, Any], child)
    try:
        here[last] = _number_or_same(yaml.safe_load(value))
    except yaml.YAMLError:
        raise ConfigError(f"'{override}': the value is not YAML.") from None


def _number_or_same(value: Any) -> Any:
    """YAML 1.1 reads 1e-3 (no dot) as text; people mean a number."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _describe(problem: Any, schema: type[BaseModel]) -> str:
    place = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return _unknown(place, str(problem["loc"][-1]), _fields_at(schema, problem["loc"][:-1]))
    if problem["type"] == "missing":
        return f"{place}: is required and missing."
    found = "" if isinstance(problem["input"], dict) else f" = {problem['input']!r}"
    message = problem["msg"].removeprefix("Value error, ")
    return f"{place}{found}: {message}" if place else message


def _unknown(place: str, name: str, known: Sequence[str]) -> str:
    near = get_close_matches(name, known, n=1)
    hint = f" Did you mean '{near[0]}'?" if near else f" Known here: {', '.join(known)}." if known else ""
    return f"{place}: no such setting.{hint}"


def _fields_at(schema: type[BaseModel], place: Sequence[Any]) -> list[str]:
    here: Any = schema
    for part in place:
        field = (
            here.model_fields.get(part) if isinstance(here, type) and issubclass(here, BaseModel) else None
        )
        here = field.annotation if field is not None else None
    return list(here.model_fields) if isinstance(here, type) and issubclass(here, BaseModel) else []
