import numpy as np

from volseg.geometry import Grid
from volseg.locate.pyramid import Small
from volseg.locate.similarity import BINS, Points, mutual_information
from volseg.locate.transform import (
    matrix_of,
    parameter_gradient,
    rigid_part,
    rotation_matrix,
    scale_factors,
    size_parameters,
)

AFFINE = np.array([[-1.7, 0.3, 0, 20], [0.2, 1.9, -0.4, -30], [0.1, 0.2, 2.6, 5], [0, 0, 0, 1]])


def wavy():
    grid = Grid((23, 20, 17), AFFINE)
    points = grid.index_to_world(np.moveaxis(np.indices(grid.shape), 0, -1))
    array = np.sin(points[..., 0] / 7) + np.cos(points[..., 1] / 9) * points[..., 2] / 20
    return Small(array.astype(np.float32), grid)


def points_of(scan, count=3000):
    generator = np.random.default_rng(1)
    indices = generator.uniform(3, np.array(scan.grid.shape) - 4, (count, 3))
    places = scan.grid.index_to_world(indices)
    values = np.sin(places[:, 0] / 7) + np.cos(places[:, 1] / 9) * places[:, 2] / 20
    low, high = values.min(), values.max()
    return Points(places, ((values - low) / (high - low) * (BINS - 1)).astype(int))


def test_the_gradient_is_the_derivative():
    scan = wavy()
    points = points_of(scan)
    generator = np.random.default_rng(2)
    here = points.points_mm + np.array([1.3, -0.9, 0.7])
    found = mutual_information(points, here, scan, (-2.0, 2.0))
    for _ in range(3):
        direction = generator.normal(size=3)
        step = 1e-5 * direction
        ahead, behind = (mutual_information(points, here + s * step, scan, (-2.0, 2.0)) for s in (1, -1))
        slope = (ahead.information - behind.information) / 2e-5
        assert np.isclose(slope, found.gradient.sum(axis=0) @ direction, rtol=2e-3)


def test_it_is_greatest_where_the_images_agree_whatever_the_contrast():
    scan = wavy()
    points = points_of(scan)
    inverted = Small(-scan.array, scan.grid)
    for image in (scan, inverted):
        values = [
            mutual_information(
                points, points.points_mm + np.array([shift, 0, 0]), image, (-2.5, 2.5)
            ).information
            for shift in (-3.0, -1.0, 0.0, 1.0, 3.0)
        ]
        assert np.argmax(values) == 2


def test_points_outside_do_not_count():
    scan = wavy()
    points = points_of(scan)
    away = mutual_information(points, points.points_mm + 1000, scan, (-2.0, 2.0))
    assert away.information == 0
    assert not away.gradient.any()
    assert away.inside == 0


def test_parameters_make_the_matrix_and_its_derivative():
    generator = np.random.default_rng(3)
    rotation = rotation_matrix(np.array([0.3, -0.4, 0.2]))
    assert np.allclose(rotation @ rotation.T, np.eye(3))
    assert np.allclose(matrix_of(size_parameters(0.85), rotation), 0.85 * rotation)
    assert np.allclose(rotation_matrix(np.array([0, 0, np.pi / 2])) @ [1, 0, 0], [0, 1, 0])
    parameters, by_matrix = generator.normal(size=12), generator.normal(size=(3, 3))
    gradient = parameter_gradient(parameters, rotation, by_matrix, np.array([1.0, 2.0, 3.0]))
    step = 1e-4 * generator.normal(size=12)
    ahead, behind = (matrix_of(parameters + s * step, rotation) for s in (1, -1))
    change = float(((ahead - behind) / 2 * by_matrix).sum()) + step[3:6] @ [10, 20, 30]
    assert np.isclose(gradient @ step, change, rtol=1e-3)


def test_the_rigid_part_of_a_stretched_rotation_is_the_rotation():
    rotation = rotation_matrix(np.array([0.5, 0.1, -0.3]))
    stretch = np.array([[0.9, 0.02, 0], [0.02, 1.1, 0.01], [0, 0.01, 0.8]])
    assert np.allclose(rigid_part(rotation @ stretch), rotation)
    assert np.allclose(scale_factors(rotation @ np.diag([1.2, 0.8, 1.0])), [0.8, 1.0, 1.2])
