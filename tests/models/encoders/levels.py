"""What the tests of the encoders of a fixed form share."""

from volseg.models.blocks import BlockStyle
from volseg.models.encoders import LevelPlan


def plan(dims, levels):
    """What an architecture asks for; widths, kernels and strides are the encoder's own."""
    return LevelPlan(dims, levels, (), (), (), BlockStyle(dimensions=dims))


def features(encoder, state):
    """The maps of every level of an image, finest first."""
    found = []
    for level, stage in enumerate(encoder.stages):
        state = stage(state)
        found.append(encoder.feature(level, state))
    return found
