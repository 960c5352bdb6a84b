"""Files in, volumes and label maps out, and back: NIfTI, NRRD, MetaImage and FreeSurfer MGH.

Importing this package is cheap: nibabel and SimpleITK are imported when the first file of their formats is met.
"""

from volseg.io.formats import is_image, stem
from volseg.io.reading import CHANNEL_GRID_TOLERANCE_MM, LABEL_ROUNDING_TOLERANCE, read_label_map, read_volume
from volseg.io.writing import write_label_map, write_volume

__all__ = [
    "CHANNEL_GRID_TOLERANCE_MM",
    "LABEL_ROUNDING_TOLERANCE",
    "is_image",
    "read_label_map",
    "read_volume",
    "stem",
    "write_label_map",
    "write_volume",
]
