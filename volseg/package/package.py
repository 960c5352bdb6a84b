"""A model package in memory, from a file and to a file."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load as decode_tensors
from safetensors.numpy import save as encode_tensors

from volseg.errors import PackageError, VolsegError
from volseg.geometry import Grid
from volseg.locate.template import Template, decode_template, encode_template
from volseg.origin import Origin
from volseg.package.archive import CARD, GOLDEN, INFO, TEMPLATE, WEIGHTS, read_members, write_members
from volseg.package.info import ModelInfo, parse_info
from volseg.volume import AnyArray, LabelMap, Volume

Weights = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True, eq=False)
class GoldenCase:
    """A small case the model must still get right: the volume and the labels [I, J, K] it gave when packed."""

    volume: Volume
    labels: AnyArray


@dataclass(frozen=True, eq=False)
class Package:
    """A model: what it is (info), its card, and its weights, golden case and template, which are decoded when asked for."""

    info: ModelInfo
    card: str
    members: Mapping[str, bytes]
    source: str
    """Where the package came from, for messages."""

    @classmethod
    def pack(
        cls,
        info: ModelInfo,
        *,
        weights: Weights,
        card: str,
        golden: GoldenCase | None,
        template: Template | None = None,
    ) -> "Package":
        """A package in memory. Weights keep their type: float16 halves the file."""
        members = {
            INFO: info.to_json().encode(),
            CARD: card.encode(),
            WEIGHTS: encode_tensors({name: np.asarray(weights[name], order="C") for name in sorted(weights)}),
        }
        if golden is not None:
            members[GOLDEN] = _encode_golden(golden)
        if template is not None:
            members[TEMPLATE] = encode_template(template)
        return cls(info, card, members, f"package '{info.name}'")

    def weights(self) -> dict[str, npt.NDArray[Any]]:
        """The network's parameters and buffers by name; floating-point ones as float32 whatever their type in the file.

        Raises:
            PackageError: not readable as safetensors, or a weight is not a finite number.
        """
        weights = {name: _single_precision(array) for name, array in self._tensors(WEIGHTS).items()}
        wild = [name for name, array in weights.items() if not np.isfinite(array).all()]
        if wild:
            raise PackageError(
                f"{self.source}: the weights hold NaN or infinity (first in {wild[0]}); get it again."
            )
        return weights

    def golden(self) -> GoldenCase | None:
        """The golden case, or None where the package has none.

        Raises:
            PackageError: the case is not readable or its parts do not fit together.
        """
        if GOLDEN not in self.members:
            return None
        tensors = self._tensors(GOLDEN)
        try:
            image, affine, labels = tensors["image"], tensors["affine"], tensors["labels"]
            i, j, k = labels.shape
            volume = Volume(
                image, Grid((i, j, k), affine), Origin(path=Path(f"golden case of {self.info.name}"))
            )
            LabelMap(labels, volume.grid)
        except (KeyError, ValueError, VolsegError) as error:
            raise PackageError(
                f"{self.source}: the golden case does not fit together ({error}); get it again."
            ) from None
        return GoldenCase(volume, labels)

    def template(self) -> Template | None:
        """What the model's locate step registers, or None where the package has no template.

        Raises:
            PackageError: the template is not readable or its parts do not fit together.
        """
        return decode_template(self.members[TEMPLATE], self.source) if TEMPLATE in self.members else None

    def write(self, path: str | Path) -> None:
        """Write the package to a file `NAME.volseg`; the same package gives the same bytes.

        Raises:
            OutputError: the file cannot be written.
        """
        write_members(Path(path), self.members)

    def _tensors(self, member: str) -> dict[str, npt.NDArray[Any]]:
        try:
            return decode_tensors(self.members[member])
        except (SafetensorError, KeyError, ValueError) as error:
            raise PackageError(f"{self.source}: {member} is not readable as safetensors ({error}).") from None


def load_package(path: str | Path) -> Package:
    """Read and check a model package; every member's SHA-256 is compared. Needs no torch.

    Raises:
        PackageError: no such file, damaged, not a package, or of another format; the message says which.
    """
    members = read_members(Path(path))
    info = parse_info(members[INFO], str(path))
    try:
        card = members[CARD].decode("utf-8")
    except UnicodeDecodeError:
        raise PackageError(f"{path}: {CARD} is not UTF-8 text; get the package again.") from None
    return Package(info, card, members, str(path))


def write_package(
    path: str | Path,
    *,
    info: ModelInfo,
    weights: Weights,
    card: str,
    golden: GoldenCase | None,
    template: Template | None = None,
) -> None:
    """Write a model package in one go (see Package.pack)."""
    Package.pack(info, weights=weights, card=card, golden=golden, template=template).write(path)


def _encode_golden(golden: GoldenCase) -> bytes:
    LabelMap(golden.labels, golden.volume.grid)
    return encode_tensors(
        {
            "image": np.asarray(golden.volume.array, order="C"),
            "affine": np.asarray(golden.volume.grid.affine, order="C"),
            "labels": np.asarray(golden.labels, order="C"),
        }
    )


def _single_precision(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return array.astype(np.float32) if array.dtype.kind == "f" else array
