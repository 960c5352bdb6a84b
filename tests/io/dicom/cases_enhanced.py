"""Cases about enhanced multi-frame files: any order of frames, shared or per-frame macros, 4-D, concatenations."""

from dataclasses import replace

import numpy as np

from tests.dicom_enhanced import Frames
from tests.dicom_files import SeriesSpec
from tests.io.dicom.case import multiframe, then

_CT = SeriesSpec()
_MR = SeriesSpec(modality="MR", intercept=0.0, orientation="sagittal")


def _shuffled(count: int) -> list[int]:
    return np.random.default_rng(3).permutation(count).tolist()


def _backwards(count: int) -> list[int]:
    return list(range(count))[::-1]


ENHANCED = {
    "enhanced CT": multiframe(_CT),
    "enhanced CT, frames backwards, rle": multiframe(replace(_CT, syntax="rle"), Frames(order=_backwards)),
    "enhanced CT, tilted, shuffled": multiframe(replace(_CT, tilt_degrees=17), Frames(order=_shuffled)),
    "enhanced MR, all macros by frame, jpeg-ls": multiframe(
        replace(_MR, syntax="jpeg-ls"), Frames(order=_shuffled, shared=())
    ),
    "enhanced CT, rescale shared, coronal": multiframe(
        replace(_CT, orientation="coronal"), Frames(shared=("measures", "orientation", "values"))
    ),
    "enhanced MR, slopes by frame": multiframe(
        replace(_MR, slope=[0.5 + 0.25 * n for n in range(7)], intercept=-3.5)
    ),
    "enhanced MR, three times": multiframe(
        _MR, Frames(dimension="temporal", values=(1, 2, 3), order=_shuffled)
    ),
    "enhanced MR, two echoes": multiframe(_MR, Frames(dimension="echo", values=(4.6, 9.2))),
    "enhanced MR, two b-values": multiframe(
        _MR, Frames(dimension="b-value", values=(0, 800), order=_backwards)
    ),
    "enhanced MR, two stacks": multiframe(_MR, Frames(dimension="stack", values=(1, 2))),
    "concatenation of three": multiframe(_CT, Frames(parts=3)),
    "concatenation of two, shuffled, two echoes": multiframe(
        _MR, Frames(parts=2, order=_shuffled, dimension="echo", values=(4.6, 9.2))
    ),
    "concatenation with a part missing": then(
        multiframe(_CT, Frames(parts=3)),
        lambda folder: (folder / "enhanced-3.dcm").unlink(),
        volumes=[],
        refused=["incomplete"],
    ),
    "enhanced CT with a slice missing": then(
        multiframe(replace(_CT, offsets_mm=(0, 2.5, 5, 10, 12.5, 15, 17.5))),
        lambda folder: None,
        volumes=[],
        refused=["missing-slices"],
    ),
    "enhanced CT, big endian, oblique": multiframe(replace(_CT, orientation="oblique", syntax="big-endian")),
    "enhanced CT, deflated, feet first": multiframe(
        replace(_CT, orientation="feet-first", syntax="deflated"), Frames(order=_backwards)
    ),
}
