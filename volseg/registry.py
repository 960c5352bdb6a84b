"""Steps and where to find them: one class in one file, found by scanning its package when a name is looked up."""

import importlib
import pkgutil
from difflib import get_close_matches
from importlib.metadata import entry_points
from typing import Any, Generic, TypeVar, cast

from pydantic import BaseModel, ConfigDict, ValidationError

from volseg.errors import ConfigError


class Step(BaseModel):
    """A unit of work whose fields are its parameters and whose `__call__` does the work.

    A subclass names itself in a field `name: Literal["..."] = "..."`, which is how files refer to it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")


StepT = TypeVar("StepT", bound=Step)
AddedT = TypeVar("AddedT", bound=Step)


class Registry(Generic[StepT]):
    """The steps of one kind: those of a volseg package and those of installed entry points of the same name."""

    def __init__(self, kind: str, package: str) -> None:
        """Name the kind for messages ("postprocess step") and the package to scan ("volseg.postprocess")."""
        self.kind = kind
        self.package = package
        self._steps: dict[str, type[StepT]] = {}
        self._scanned = False

    def add(self, step: type[AddedT]) -> type[AddedT]:
        """Class decorator: register under the default of its `name` field."""
        name = cast(str, step.model_fields["name"].default)
        known = self._steps.get(name)
        if known is not None and (known.__module__, known.__qualname__) != (
            step.__module__,
            step.__qualname__,
        ):
            raise ConfigError(
                f"two {self.kind}s are called '{name}': {known.__module__} and {step.__module__}."
            )
        self._steps[name] = cast(type[StepT], step)
        return step

    def names(self) -> list[str]:
        """All known names, sorted."""
        self._scan()
        return sorted(self._steps)

    def get(self, name: str) -> type[StepT]:
        """The class of a name.

        Raises:
            ConfigError: no such step; the message suggests the nearest name.
        """
        self._scan()
        if name in self._steps:
            return self._steps[name]
        near = get_close_matches(name, self._steps, n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise ConfigError(f"no {self.kind} called '{name}'.{hint} Known: {', '.join(self.names())}.")

    def build(self, fields: Any) -> StepT:
        """A step from its fields `{"name": ..., parameter: ...}`; a step is returned as it is.

        Raises:
            ConfigError: unknown name or wrong parameters, all of them named.
        """
        if isinstance(fields, Step):
            return cast(StepT, fields)
        if not isinstance(fields, dict) or "name" not in fields:
            raise ConfigError(self._not_fields(cast(object, fields)))
        step = self.get(str(cast(dict[str, Any], fields)["name"]))
        try:
            return step.model_validate(fields)
        except ValidationError as error:
            problems = _in_words(error, list(step.model_fields))
            raise ConfigError(f"{self.kind} '{fields['name']}': {'; '.join(problems)}") from None

    def _not_fields(self, found: object) -> str:
        article = "an" if self.kind[0] in "aeiou" else "a"
        names = self.names()
        hint = f"Write {{name: {found}}}." if found in names else f"Known names: {', '.join(names)}."
        return f"{article} {self.kind} is written as {{name: ..., parameter: ...}}, found {found!r}. {hint}"

    def _scan(self) -> None:
        if self._scanned:
            return
        self._scanned = True
        package = importlib.import_module(self.package)
        for module in pkgutil.walk_packages(package.__path__, prefix=f"{self.package}."):
            importlib.import_module(module.name)
        for entry_point in entry_points(group=self.package):
            self.add(entry_point.load())


def _in_words(error: ValidationError, known: list[str]) -> list[str]:
    """What is wrong with each parameter; that a list is too short is left out where an item of it is wrong."""
    problems = error.errors()
    lists = {problem["loc"][:-1] for problem in problems if len(problem["loc"]) > 1}
    told: list[str] = []
    for problem in problems:
        place, found = ".".join(map(str, problem["loc"])), problem["input"]
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            near = get_close_matches(place, known, n=1)
            hint = f"Did you mean '{near[0]}'?" if near else f"Known here: {', '.join(known)}."
            told.append(f"{place}: no such parameter. {hint}")
        elif problem["type"] == "value_error":
            told.append(f"{place}: {message}" if place else message)
        elif problem["loc"] not in lists:
            told.append(f"{place}: {message}, found {found!r}")
    return told
