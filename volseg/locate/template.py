"""A template: one head in known space at low resolution, with places where the tissue is known."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load as decode_tensors
from safetensors.numpy import save as encode_tensors

from volseg.errors import GeometryError, PackageError
from volseg.geometry import Grid

Voxels = npt.NDArray[np.uint8]

TISSUES = ("fluid", "grey", "white")
"""Dark to bright in T1-weighted MR: cerebrospinal fluid, grey matter, white matter."""


@dataclass(frozen=True, eq=False)
class Template:
    """A T1-weighted brain [I, J, K] uint8 on a grid in template space (RAS+ mm), 0 outside the brain.

    Raises:
        GeometryError: the parts do not fit together.
    """

    array: Voxels
    grid: Grid
    tissues: Mapping[str, Voxels]
    """Indices [N, 3] of voxels that are nothing but one tissue, for each of TISSUES."""
    notice: str
    """Where the template comes from and on what terms it may be passed on."""

    def __post_init__(self) -> None:
        """Check that image, grid and tissue voxels belong together."""
        if self.array.shape != self.grid.shape or self.array.dtype != np.uint8 or not self.array.any():
            raise GeometryError(
                f"a template is uint8 on its grid {self.grid.shape}, found {self.array.shape}."
            )
        for tissue in TISSUES:
            voxels = self.tissues.get(tissue, np.empty((0, 3)))
            if voxels.ndim != 2 or voxels.shape[1] != 3 or len(voxels) < 10 or voxels.dtype != np.uint8:
                raise GeometryError(f"the template's {tissue} voxels must be indices [N, 3] of type uint8.")
            if (voxels >= np.array(self.grid.shape)).any():
                raise GeometryError(
                    f"the template's {tissue} voxels reach outside its grid {self.grid.shape}."
                )

    def tissue_points(self, tissue: str) -> npt.NDArray[np.float64]:
        """The voxel centres [N, 3] of one tissue in template space, mm."""
        return self.grid.index_to_world(self.tissues[tissue])


def encode_template(template: Template) -> bytes:
    """The template as safetensors; the same template gives the same bytes."""
    tensors: dict[str, npt.NDArray[Any]] = {f"tissue.{name}": template.tissues[name] for name in TISSUES}
    tensors |= {"image": template.array, "affine": template.grid.affine}
    return encode_tensors(
        {name: np.asarray(array, order="C") for name, array in tensors.items()}, {"notice": template.notice}
    )


def decode_template(data: bytes, source: str) -> Template:
    """Read a template; `source` names it in messages.

    Raises:
        PackageError: not readable as safetensors, a part is missing, or the parts do not fit together.
    """
    try:
        tensors = decode_tensors(data)
        i, j, k = tensors["image"].shape
        grid = Grid((i, j, k), tensors["affine"])
        tissues = {name: tensors[f"tissue.{name}"] for name in TISSUES}
        return Template(tensors["image"], grid, tissues, _notice(data))
    except (SafetensorError, KeyError, ValueError, GeometryError) as error:
        raise PackageError(
            f"{source}: the template is not usable ({error}); get the package again."
        ) from None


def _notice(data: bytes) -> str:
    """The notice in the header: eight bytes of length, then JSON (safetensors' own form)."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    return str(header.get("__metadata__", {}).get("notice", ""))
