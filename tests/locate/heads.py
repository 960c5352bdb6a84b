"""A stand-in head: the template with bone and scalp around it, in any pose and on any voxels."""

from pathlib import Path

import numpy as np
from scipy import ndimage

from volseg.geometry import Grid
from volseg.locate.template import Template, decode_template
from volseg.resample import resample_volume
from volseg.volume import Volume

SAMPLES = Path(__file__).parents[2] / "data_samples"
HIPPOCAMPI_MM = np.array([[26.0, -23, -12], [-26, -23, -12]])


def read_template() -> Template:
    path = SAMPLES / "mni152_t1_3mm.safetensors"
    return decode_template(path.read_bytes(), path.name)


def head_of(template: Template) -> Volume:
    """The brain, 6 mm of dark bone and 6 mm of bright scalp, at 3 mm in template space."""
    array = np.pad(template.array, 4).astype(np.float32)
    brain = ndimage.binary_fill_holes(array > 0)
    bone = ndimage.binary_dilation(brain, iterations=2)
    scalp = ndimage.binary_dilation(bone, iterations=2)
    array[bone & ~brain] = 20
    array[scalp & ~bone] = 240
    return Volume(array, template.grid.box((-4, -4, -4), tuple(n + 4 for n in template.grid.shape)))


def pose(*, degrees=(0.0, 0.0, 0.0), scale=1.0, shift_mm=(0.0, 0.0, 0.0)) -> np.ndarray:
    """From the template's world to the scan's [4, 4]: scaled, turned about x, then y, then z, shifted."""
    affine = np.eye(4)
    for axis, angle in enumerate(np.deg2rad(degrees)):
        turn = np.eye(3)
        i, j = (axis + 1) % 3, (axis + 2) % 3
        turn[i, i] = turn[j, j] = np.cos(angle)
        turn[j, i], turn[i, j] = np.sin(angle), -np.sin(angle)
        affine[:3, :3] = turn @ affine[:3, :3]
    affine[:3, :3] *= scale
    affine[:3, 3] = shift_mm
    return affine


def scan_of(
    head: Volume, affine: np.ndarray, *, spacing_mm=(2.0, 2.5, 1.8), bias=0.0, noise=2.0, seed=0
) -> Volume:
    """The posed head on an upright grid that holds all of it; air is noise."""
    corners = head.grid.corners() @ affine[:3, :3].T + affine[:3, 3]
    low, high = corners.min(axis=0), corners.max(axis=0)
    placed = np.diag([*spacing_mm, 1.0])
    placed[:3, 3] = low
    grid = Grid(tuple(int(n) for n in np.ceil((high - low) / spacing_mm)), placed)
    array = resample_volume(head, Grid(grid.shape, np.linalg.inv(affine) @ grid.affine)).array[0]
    x, y, z = np.meshgrid(*[np.linspace(-1, 1, n) for n in grid.shape], indexing="ij")
    array = array * np.exp(bias * (x + 0.5 * y - z * z))
    generator = np.random.default_rng(seed)
    return Volume(np.abs(array + generator.normal(0, noise, grid.shape)).astype(np.float32), grid)


def mapped(affine: np.ndarray, points_mm: np.ndarray) -> np.ndarray:
    return points_mm @ affine[:3, :3].T + affine[:3, 3]
