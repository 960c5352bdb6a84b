"""Files in, volumes and label maps out, and back: NIfTI, NRRD, MetaImage, FreeSurfer MGH and DICOM.

Importing this package is cheap: nibabel, SimpleITK and pydicom are imported when the first file of their formats is met.
"""

from volseg.io.formats import is_dicom_source, is_image, stem
from volseg.io.reading import (
    CHANNEL_GRID_TOLERANCE_MM,
    LABEL_ROUNDING_TOLERANCE,
    read_label_map,
    read_volume,
    stack_channels,
)
from volseg.io.writing import write_label_map, write_volume

__all__ = [
    "CHANNEL_GRID_TOLERANCE_MM",
    "LABEL_ROUNDING_TOLERANCE",
    "is_dicom_source",
    "is_image",
    "read_label_map",
    "read_volume",
    "stack_channels",
    "stem",
    "write_label_map",
    "write_volume",
]
