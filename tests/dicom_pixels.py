"""Stored values as the bytes of PixelData, in every transfer syntax that scanners and archives use."""

import gdcm
import numpy as np
from pydicom.encaps import encapsulate
from pydicom.pixels import get_encoder
from pydicom.uid import UID

from tests.dicom_jpeg import jpeg_12bit

TRANSFER_SYNTAXES = {
    "implicit": UID("1.2.840.10008.1.2"),
    "explicit": UID("1.2.840.10008.1.2.1"),
    "deflated": UID("1.2.840.10008.1.2.1.99"),
    "big-endian": UID("1.2.840.10008.1.2.2"),
    "jpeg-12bit": UID("1.2.840.10008.1.2.4.51"),
    "jpeg-lossless": UID("1.2.840.10008.1.2.4.70"),
    "jpeg-ls": UID("1.2.840.10008.1.2.4.80"),
    "jpeg2000": UID("1.2.840.10008.1.2.4.90"),
    "rle": UID("1.2.840.10008.1.2.5"),
}
"""Name to UID. All keep every value, but "jpeg-12bit", which loses a little."""


def pixel_bytes(
    planes: np.ndarray,
    *,
    syntax: str,
    bits_stored: int,
    bits_allocated: int,
    is_signed: bool,
    fragments: int = 1,
) -> bytes:
    """The value of PixelData for stored planes [n, rows, columns], encapsulated where the syntax packs them.

    "jpeg2000" needs planes of 32 pixels or more along both axes (its writer makes six resolutions).
    """
    kind = f"{'i' if is_signed else 'u'}{bits_allocated // 8}"
    if syntax in ("implicit", "explicit", "deflated", "big-endian"):
        order = ">" if syntax == "big-endian" else "<"
        raw = planes.astype(order + kind).tobytes()
        return raw + b"\0" * (len(raw) % 2)
    planes = planes.astype("<" + kind)
    if syntax == "jpeg-12bit":
        packed = [jpeg_12bit(plane) for plane in planes]
    elif syntax == "jpeg-lossless":
        packed = [_jpeg_lossless(plane, bits_stored) for plane in planes]
    else:
        encoder = get_encoder(TRANSFER_SYNTAXES[syntax])
        packed = [
            encoder.encode(
                plane,
                rows=plane.shape[0],
                columns=plane.shape[1],
                samples_per_pixel=1,
                number_of_frames=1,
                bits_allocated=bits_allocated,
                bits_stored=bits_stored,
                pixel_representation=int(is_signed),
                photometric_interpretation="MONOCHROME2",
            )
            for plane in planes
        ]
    return encapsulate(packed, fragments_per_frame=fragments)


def _jpeg_lossless(plane: np.ndarray, bits_stored: int) -> bytes:
    bits = plane.dtype.itemsize * 8
    # A bare gdcm.Image would be freed twice: by its counted references and by Python.
    writer = gdcm.ImageWriter()
    image = writer.GetImage()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((plane.shape[1], plane.shape[0], 1))
    photometric = gdcm.PhotometricInterpretation.MONOCHROME2
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(photometric))
    is_signed = int(plane.dtype.kind == "i")
    image.SetPixelFormat(gdcm.PixelFormat(1, bits, bits_stored, bits_stored - 1, is_signed))
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetByteStringValue(plane.tobytes())
    image.SetDataElement(element)
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
    change.SetInput(image)
    if not change.Change():
        raise RuntimeError(f"gdcm cannot write JPEG lossless with {bits_stored} bits stored.")
    fragments = change.GetOutput().GetDataElement().GetSequenceOfFragments()
    packed = fragments.GetFragment(0).GetByteValue().GetBuffer()
    return packed.encode("utf-8", "surrogateescape")
