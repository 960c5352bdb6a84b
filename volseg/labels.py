"""The meaning of the integers in a label map: value, name, colour, code."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from volseg.errors import ConfigError


@dataclass(frozen=True)
class Code:
    """A coded concept (DICOM PS3.3 section 8.8): scheme such as "SCT", value such as "4421005", meaning."""

    scheme: str
    value: str
    meaning: str


@dataclass(frozen=True)
class Label:
    """One label: its integer value in the map (> 0), name, display colour (R, G, B in 0..255), optional code."""

    value: int
    name: str
    colour: tuple[int, int, int]
    code: Code | None = None

    def __post_init__(self) -> None:
        """Refuse the background value, empty names and impossible colours."""
        if self.value < 1:
            raise ConfigError(
                f"label '{self.name}' has value {self.value}; labels start at 1, 0 is background."
            )
        if not self.name:
            raise ConfigError(f"label {self.value} has no name; give it one.")
        if len(self.colour) != 3 or not all(0 <= channel <= 255 for channel in self.colour):
            raise ConfigError(
                f"label '{self.name}' has colour {self.colour}; expected three integers in 0..255."
            )


@dataclass(frozen=True)
class LabelTable:
    """The labels of a map or model, by rising value; background (0) is implicit."""

    labels: tuple[Label, ...]

    def __post_init__(self) -> None:
        """Refuse repeated values or names, and sort by value."""
        object.__setattr__(self, "labels", tuple(sorted(self.labels, key=lambda label: label.value)))
        for attribute in ("value", "name"):
            seen = [getattr(label, attribute) for label in self.labels]
            repeated = sorted({str(item) for item in seen if seen.count(item) > 1})
            if repeated:
                raise ConfigError(
                    f"label table repeats the {attribute} {', '.join(repeated)}; each must be unique."
                )

    def __iter__(self) -> Iterator[Label]:
        """Labels by rising value."""
        return iter(self.labels)

    def __len__(self) -> int:
        """How many labels, background not counted."""
        return len(self.labels)

    @property
    def values(self) -> tuple[int, ...]:
        """Label values, rising, without background."""
        return tuple(label.value for label in self.labels)

    @classmethod
    def from_names(cls, names: Sequence[str]) -> "LabelTable":
        """Labels 1..n with the given names and distinct default colours."""
        colours = [default_colour(index) for index in range(len(names))]
        return cls(tuple(Label(i + 1, name, colours[i]) for i, name in enumerate(names)))


@dataclass(frozen=True)
class LabelRegion:
    """A union of labels that a network finds as one, such as the whole tumour; regions may lie within each other."""

    name: str
    values: tuple[int, ...]
    """The values of the labels it unites."""
    paint: int
    """The label written where this region is found and no later (inner) region is."""

    def __post_init__(self) -> None:
        """Refuse a region without labels, or one that paints what it does not hold."""
        if not self.values or self.paint not in self.values:
            raise ConfigError(
                f"region '{self.name}' of labels {list(self.values)} paints {self.paint}; expected one of its own labels."
            )


@dataclass(frozen=True)
class ChannelRule:
    """How logits [N, I, J, K] become labels: one value per channel, or regions painted one over the other."""

    values: tuple[int, ...]
    """Of each channel; where `exclusive`, the first is the background's, 0."""
    exclusive: bool = True
    """The channel with the largest logit wins (softmax). Otherwise (sigmoid) every channel whose logit is above 0, that is
    a probability above one half, paints its value, in order: later channels over earlier ones, on background."""


NO_LABELS = LabelTable(())
"""The table of a label map whose values have no names."""

_COLOURS = (
    (230, 75, 53), (77, 187, 213), (0, 160, 135), (243, 195, 0), (132, 91, 151), (243, 132, 0),
    (161, 202, 241), (190, 0, 50), (194, 178, 128), (0, 136, 86), (230, 143, 172), (0, 103, 165),
)  # fmt: skip


def default_colour(index: int) -> tuple[int, int, int]:
    """A colour for the index-th label (0-based), repeating after twelve."""
    return _COLOURS[index % len(_COLOURS)]
