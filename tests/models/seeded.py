"""Weights, images and records that are the same in two environments, so that only few numbers need to be stored.

Every tensor is filled from the raw 64-bit numbers of a PCG64 generator, which NumPy keeps the same between versions, and
whose seed is the CRC32 of the tensor's name in the network it belongs to.
"""

import json
import zlib
from math import prod

import numpy as np
import torch


def uniform(name, count):
    """Float32 [count] of mean 0 and variance 1: equally distributed between -sqrt(3) and sqrt(3)."""
    raw = np.random.PCG64(zlib.crc32(name.encode())).random_raw(count)
    return ((raw >> np.uint64(40)).astype(np.float32) / np.float32(2**23) - 1) * np.float32(3**0.5)


def seeded_tensor(name, shape):
    """What a network's tensor of this name holds: weights by He et al. 2015, positive variances, norms near the identity."""
    numbers, kind = uniform(name, prod(shape)).reshape(shape), name.rsplit(".", 1)[-1]
    if kind == "num_batches_tracked":
        return torch.zeros(shape, dtype=torch.int64)
    if kind == "running_var":
        return torch.from_numpy(1 + 0.25 * numbers)
    if len(shape) > 1:
        return torch.from_numpy(numbers * np.float32((2 / prod(shape[1:])) ** 0.5))
    return torch.from_numpy(0.1 * numbers + np.float32(kind == "weight"))


def seeded_state(shapes):
    """A state dict of these names and shapes."""
    return {name: seeded_tensor(name, shape) for name, shape in shapes.items()}


def seeded_image(shape):
    """An input of this shape."""
    return torch.from_numpy(uniform("image", prod(shape)).reshape(shape))


def record(name, tensor, samples):
    """What is stored of an array: its shape, some elements anywhere in it, and its sum and sum of squares."""
    array = np.ascontiguousarray(tensor.detach().numpy())
    exact = array.astype(np.float64)
    places = np.random.PCG64(zlib.crc32(b"places")).random_raw(samples) % np.uint64(array.size)
    return {
        f"{name} shape": np.array(array.shape),
        f"{name} elements": array.ravel()[places],
        f"{name} sums": np.array([exact.sum(), np.square(exact).sum()]),
    }


def assert_recorded(stored, name, tensor, *, rtol, atol):
    """An array is that of a record."""
    elements = stored[f"{name} elements"]
    found = record(name, tensor, len(elements))
    assert found[f"{name} shape"].tolist() == stored[f"{name} shape"].tolist()
    np.testing.assert_allclose(found[f"{name} elements"], elements, rtol=rtol, atol=atol, err_msg=name)
    total, squares = stored[f"{name} sums"]
    size = prod(tensor.shape)
    assert abs(found[f"{name} sums"][0] - total) / size < atol + rtol * (squares / size) ** 0.5
    assert abs(found[f"{name} sums"][1] - squares) < 2 * (rtol + atol) * squares
    assert elements.std() > 0.01, "a record that could be matched by a constant proves nothing"


def packed(shapes):
    """Names and shapes as bytes for an archive."""
    return np.frombuffer(json.dumps(shapes).encode(), dtype=np.uint8)


def unpacked(array):
    """Names and shapes from an archive."""
    return json.loads(array.tobytes())
