"""The template laid on a scan: rigid, then affine, by mutual information; from several starts, always the same way.

Everything is computed by numpy on small images with fixed random places, so one scan gives one answer, whatever the
number of threads.
"""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import ndimage, optimize

from volseg.geometry import FloatArray
from volseg.locate.pyramid import Small, blur, sample, shrink
from volseg.locate.shading import without_shading
from volseg.locate.similarity import BINS, Points, mutual_information
from volseg.locate.starts import Start, find_starts
from volseg.locate.template import Template
from volseg.locate.transform import AFFINE, RIGID, matrix_of, parameter_gradient, shift_of, size_parameters
from volseg.volume import Volume

SPACING_MM = 3.0
_COARSE_SIGMA_MM = 5.0
_SHELL_VOXELS = 2
"""Template voxels beyond the brain that are compared too: dark in the template, fluid and bone in the scan."""
_STARTS = 3
"""How many of the best rotations are followed."""
_SIZES = (0.85, 0.97, 1.1)
"""Size of the head beside the template at the start; from too large a size the brain ends at the scalp."""
_PLACES = 3
"""How many of the places that the coarse search ended at are looked at closely: the brightness of a scan that is uneven, or
its scalp, can make a wrong one look best on the smoothed images."""
_SAME_PLACE_MM = 3.0
_FEW, _MANY = 4000, 16000
"""Places compared on the smoothed and on the full small image."""
_STRETCH_PENALTY = 0.002
"""Per squared unit of stretch and shear (a tenth each), in nats: keeps what the scan does not tell near the template."""


@dataclass(frozen=True, eq=False)
class Registration:
    """The affine map [4, 4] from template space to the scan's world, both RAS+ mm, and how well it fits."""

    affine: FloatArray
    information: float
    """Mutual information in nats."""
    disagreement_mm: float
    """Mean distance in the brain between this map and the nearest one that another start led to."""
    scan: Small
    """The scan at SPACING_MM or a little less, without shading."""

    def map(self, points_mm: FloatArray) -> FloatArray:
        """Template points [..., 3] in the scan's world."""
        return points_mm @ self.affine[:3, :3].T + self.affine[:3, 3]


def register(template: Template, volume: Volume) -> Registration:
    """Lay the template on the first channel of a volume.

    Raises:
        IntensityError: NaN or infinity in the volume.
    """
    brain = _Brain.of(template)
    scan = shrink(volume, SPACING_MM)
    poses = _coarse_poses(brain, blur(scan, _COARSE_SIGMA_MM))
    leaders: list[_Pose] = []
    for pose in poses:
        if len(leaders) < _PLACES and all(pose.apart_mm(other, brain) > _SAME_PLACE_MM for other in leaders):
            leaders.append(pose)
    finished = [_finish(brain, pose, scan) for pose in leaders]
    chosen = max(range(len(leaders)), key=lambda n: finished[n][0].score)
    best, even = finished[chosen]
    rivals = [pose for pose in poses if pose.start is not best.start]
    rival, _ = _finish(brain, min(rivals, key=lambda pose: pose.apart_mm(leaders[chosen], brain)), scan)
    information = mutual_information(
        brain.many, best.map(brain.many.points_mm), even, _window(even)
    ).information
    return Registration(best.affine(), information, best.apart_mm(rival, brain), even)


@dataclass(frozen=True, eq=False)
class _Brain:
    """What of a template is compared."""

    centre_mm: FloatArray
    places_mm: FloatArray
    """Some places in the brain [N, 3]."""
    soft: Small
    """The template, smoothed."""
    mask: Small
    """The brain and the shell around it, 1 or 0."""
    few: Points
    """Of the smoothed template."""
    many: Points

    @classmethod
    def of(cls, template: Template) -> "_Brain":
        image = Small(template.array.astype(np.float32), template.grid)
        soft = blur(image, _COARSE_SIGMA_MM)
        inside = np.asarray(ndimage.binary_fill_holes(template.array > 0), dtype=np.bool_)
        shell = np.asarray(ndimage.binary_dilation(inside, iterations=_SHELL_VOXELS), dtype=np.bool_)
        places_mm = template.grid.index_to_world(np.argwhere(inside))
        return cls(
            centre_mm=places_mm.mean(axis=0),
            places_mm=places_mm[::7],
            soft=soft,
            mask=Small(shell.astype(np.float32), template.grid),
            few=_points(soft, shell, _FEW),
            many=_points(image, shell, _MANY),
        )


@dataclass(frozen=True, eq=False)
class _Pose:
    """A state of the search: parameters [12] about a start, and the score they reached."""

    template_centre_mm: FloatArray
    start: Start
    parameters: FloatArray
    score: float = -np.inf

    def map(self, points_mm: FloatArray) -> FloatArray:
        """Where template points [N, 3] land."""
        matrix = matrix_of(self.parameters, self.start.rotation)
        return (points_mm - self.template_centre_mm) @ matrix.T + shift_of(
            self.parameters, self.start.centre_mm
        )

    def affine(self) -> FloatArray:
        """The map as a matrix [4, 4]."""
        affine = np.eye(4)
        affine[:3, :3] = matrix_of(self.parameters, self.start.rotation)
        affine[:3, 3] = self.map(np.zeros((1, 3)))[0]
        return affine

    def apart_mm(self, other: "_Pose", brain: _Brain) -> float:
        """Mean distance between where two poses put the brain."""
        return float(np.linalg.norm(self.map(brain.places_mm) - other.map(brain.places_mm), axis=1).mean())


def _coarse_poses(brain: _Brain, soft: Small) -> list[_Pose]:
    """Affine poses on the smoothed images, from several starts and sizes, best first."""
    poses: list[_Pose] = []
    for start in find_starts(brain.soft, brain.mask, brain.centre_mm, soft)[:_STARTS]:
        for size in _SIZES:
            pose = _Pose(brain.centre_mm, start, size_parameters(size))
            poses.append(_climb(_climb(pose, brain.few, soft, RIGID), brain.few, soft, AFFINE))
    return sorted(poses, key=lambda pose: -pose.score)


def _finish(brain: _Brain, pose: _Pose, scan: Small) -> tuple[_Pose, Small]:
    """A coarse pose refined at full resolution, and the image without shading that it was found on."""
    pose = _climb(pose, brain.many, scan, RIGID)
    even = without_shading(scan, brain.many.bins, pose.map(brain.many.points_mm))
    return _climb(pose, brain.many, even, AFFINE), even


def _climb(pose: _Pose, points: Points, scan: Small, free: int) -> _Pose:
    """The pose of greatest mutual information near a pose, its first `free` parameters changed (L-BFGS)."""
    offsets = points.points_mm - pose.template_centre_mm
    window = _window(scan)
    fixed = pose.parameters[free:]

    def cost(values: FloatArray) -> tuple[float, FloatArray]:
        here = replace(pose, parameters=np.concatenate([values, fixed]))
        found = mutual_information(points, here.map(points.points_mm), scan, window)
        by_matrix, by_shift = found.gradient.T @ offsets, found.gradient.sum(axis=0)
        gradient = parameter_gradient(here.parameters, pose.start.rotation, by_matrix, by_shift)
        stretch = np.concatenate([np.zeros(RIGID), here.parameters[RIGID:]])
        penalty = _STRETCH_PENALTY * float(stretch @ stretch)
        return penalty - found.information, (2 * _STRETCH_PENALTY * stretch - gradient)[:free]

    options = {"maxiter": 40, "ftol": 1e-5, "gtol": 1e-4}
    answer = optimize.minimize(cost, pose.parameters[:free], jac=True, method="L-BFGS-B", options=options)
    return replace(pose, parameters=np.concatenate([answer.x, fixed]), score=-float(answer.fun))


def _points(image: Small, mask: npt.NDArray[np.bool_], count: int) -> Points:
    """Up to `count` places in the mask, moved off the voxel centres so that no grid is met at its own spacing."""
    generator = np.random.default_rng(0)
    voxels = np.argwhere(mask)
    chosen = voxels[np.sort(generator.permutation(len(voxels))[:count])]
    places_mm = image.grid.index_to_world(chosen + generator.uniform(-0.5, 0.5, chosen.shape))
    values, _ = sample(image, places_mm)
    bins = np.clip(values / float(values.max()) * BINS, 0, BINS - 1).astype(np.intp)
    return Points(places_mm, bins)


def _window(scan: Small) -> tuple[float, float]:
    """The intensities that count: all but the brightest and darkest voxel in 200."""
    low, high = np.percentile(scan.array, [0.5, 99.5]).tolist()
    return (low, high) if high > low else (low, low + 1.0)
