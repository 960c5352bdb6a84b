"""One row of the table of cases: what lies in a folder, and what an expert says must come of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pydicom.dataset import Dataset

from tests.dicom_enhanced import Frames, write_enhanced
from tests.dicom_files import SeriesSpec, write_series
from volseg.geometry import FloatArray, Grid

Edit = Callable[[Dataset, int], None]


@dataclass(frozen=True, eq=False)
class Exact:
    """A volume that must come out: every voxel, and every corner of the grid within 0.02 mm."""

    truth: FloatArray
    grid: Grid
    tolerance: float = 0.0
    """Largest difference of a value; the rounding of float32 is allowed besides."""


@dataclass(frozen=True)
class Expected:
    """What index_series and reading must say of a folder."""

    volumes: Sequence[Exact] = ()
    refused: Sequence[str] = ()
    """The reason of each refused stack."""
    dropped: Mapping[str, int] = field(default_factory=dict)
    """Files and frames set aside, counted by reason."""
    says: Sequence[str] = ()
    """What the message of the refusal must hold."""
    is_seen_in_pixels: bool = False
    """The refusal comes when pixels are read; the headers look right."""
    allow_gaps: bool = False
    join: bool = False
    source: str = ""
    """What to read below the case's folder, such as "DICOMDIR"; empty is the folder."""


Build = Callable[[Path], Expected]


def exact(spec: SeriesSpec, *, tolerance: float = 0.0, dropped: Mapping[str, int] | None = None) -> Build:
    """A series that is one exact volume."""

    def build(folder: Path) -> Expected:
        written = write_series(folder, spec)
        return Expected([Exact(written.truth, written.grid, tolerance)], dropped=dropped or {})

    return build


def refused(spec: SeriesSpec, reason: str, *, without: Sequence[int] = (), says: Sequence[str] = ()) -> Build:
    """A series that must be refused, after some of its slices were lost."""

    def build(folder: Path) -> Expected:
        written = write_series(folder, spec)
        for number in without:
            written.files[number].unlink()
        return Expected(refused=[reason], says=says)

    return build


def broken(spec: SeriesSpec, reason: str, *, spoil: Callable[[Path], None], number: int = 3) -> Build:
    """A series one of whose files is spoiled in its pixels; the error must name that file."""

    def build(folder: Path) -> Expected:
        written = write_series(folder, spec)
        spoil(written.files[number])
        return Expected(refused=[reason], says=[written.files[number].name], is_seen_in_pixels=True)

    return build


def several(*specs: SeriesSpec, dropped: Mapping[str, int] | None = None) -> Build:
    """Several volumes in one folder; give them UIDs and file names that do not clash."""

    def build(folder: Path) -> Expected:
        written = [write_series(folder, spec) for spec in specs]
        return Expected([Exact(series.truth, series.grid) for series in written], dropped=dropped or {})

    return build


def multiframe(spec: SeriesSpec, frames: Frames | None = None, *, edit: Edit | None = None) -> Build:
    """An enhanced multi-frame file, or a concatenation; all of its volumes must come out."""

    def build(folder: Path) -> Expected:
        written = write_enhanced(folder / "enhanced.dcm", spec, frames, edit=edit)
        return Expected([Exact(volume, written.grid) for volume in written.volumes])

    return build


def then(build: Build, work: Callable[[Path], object], **changes: object) -> Build:
    """A built case with something done to its folder afterwards, and what that changes of the verdict."""

    def both(folder: Path) -> Expected:
        expected = build(folder)
        work(folder)
        return replace(expected, **changes)

    return both


def part(spec: SeriesSpec, name: str, **changes: object) -> SeriesSpec:
    """Another part of one series: the same UIDs of series and study, other files and instances."""
    return replace(
        spec,
        sop_uid=lambda number: f"{spec.series_uid}.{sum(name.encode())}.{number + 1}",
        file_name=lambda number: f"{name}{number * 7919 % 9973:04d}",
        **changes,
    )


def setting(**values: object) -> Edit:
    """An edit that sets attributes of every slice; a callable gives the value by slice, None removes it."""

    def edit(dataset: Dataset, number: int) -> None:
        for keyword, value in values.items():
            if value is None:
                if keyword in dataset:
                    delattr(dataset, keyword)
            else:
                setattr(dataset, keyword, value(number) if callable(value) else value)

    return edit


def only(number: int, edit: Edit) -> Edit:
    """An edit for one slice."""

    def chosen(dataset: Dataset, at: int) -> None:
        if at == number:
            edit(dataset, at)

    return chosen
