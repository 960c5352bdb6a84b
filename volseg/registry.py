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
            raise ConfigError(f"a {self.kind} is written as {{name: ..., parameter: ...}}, found {fields!r}.")
        step = self.get(str(cast(dict[str, Any], fields)["name"]))
        try:
            return step.model_validate(fields)
        except ValidationError as error:
            problems = [f"{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in error.errors()]
            raise ConfigError(f"{self.kind} '{fields['name']}': {'; '.join(problems)}") from None

    def _scan(self) -> None:
        if self._scanned:
            return
        self._scanned = True
        package = importlib.import_module(self.package)
        for module in pkgutil.walk_packages(package.__path__, prefix=f"{self.package}."):
            importlib.import_module(module.name)
        for entry_point in entry_points(group=self.package):
            self.add(entry_point.load())
