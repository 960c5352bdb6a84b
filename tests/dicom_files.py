"""Writes DICOM test series with pydicom: known voxels at known places, in the manners of several vendors.

    written = write_series(tmp_path / "export", SeriesSpec(orientation="coronal", syntax="jpeg-ls"))
    written.truth[written.marker], written.grid, written.marker_ras

Enhanced multi-frame files are in tests.dicom_enhanced. No volseg code writes anything here, so that what reads these files is tested against other hands.
"""

import gc
import warnings
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom import config
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.fileset import FileSet
from pydicom.filewriter import dcmwrite
from pydicom.tag import BaseTag, Tag

from tests.dicom_pixels import TRANSFER_SYNTAXES, pixel_bytes
from tests.dicom_spec import SECRETS, VENDORS, SeriesSpec
from volseg.geometry import FloatArray, Grid

__all__ = [
    "SECRETS",
    "VENDORS",
    "SeriesSpec",
    "Written",
    "raw_value",
    "save",
    "slice_dataset",
    "write_dicomdir",
    "write_series",
    "zip_folder",
]

_SOP_CLASSES = {
    "CT": "1.2.840.10008.5.1.4.1.1.2",
    "MR": "1.2.840.10008.5.1.4.1.1.4",
    "PT": "1.2.840.10008.5.1.4.1.1.128",
}


@dataclass(frozen=True, eq=False)
class Written:
    """Files on disk and what a right reader finds in them."""

    spec: SeriesSpec
    folder: Path
    files: tuple[Path, ...]
    """Of each slice, in the order of the slices; all parts of a multi-frame series."""
    truth: FloatArray
    """Rescaled values [I, J, K] float64."""
    grid: Grid
    volumes: tuple[FloatArray, ...] = ()
    """Where the series holds several volumes on the grid: each, in the order of its dimension's values."""

    @property
    def marker(self) -> tuple[int, int, int]:
        """The voxel of the highest stored value."""
        return self.spec.marker

    @property
    def marker_ras(self) -> FloatArray:
        """RAS mm [3] of the marker voxel."""
        return self.grid.index_to_world(self.spec.marker)


def write_series(folder: Path, spec: SeriesSpec) -> Written:
    """Write one single-frame file for each slice; names and InstanceNumbers do not follow the slices."""
    files = []
    for number in range(spec.shape[2]):
        dataset = slice_dataset(spec, number)
        name = spec.file_name(number) if spec.file_name else f"IM{number * 7919 % 9973:04d}"
        files.append(save(dataset, folder / name, spec))
    return Written(spec, folder, tuple(files), spec.truth, spec.grid)


def slice_dataset(spec: SeriesSpec, number: int) -> Dataset:
    """The data elements of one slice, pixels included."""
    with config.disable_value_validation():
        dataset = patient_and_study(spec)
        dataset.SOPClassUID = _SOP_CLASSES[spec.modality]
        dataset.SOPInstanceUID = spec.sop_uid(number) if spec.sop_uid else f"{spec.series_uid}.{number + 1}"
        dataset.InstanceNumber = spec.shape[2] - number
        _fill_geometry(dataset, spec, number)
        dataset.RescaleSlope = short(spec.slopes[number])
        dataset.RescaleIntercept = short(spec.intercepts[number])
        fill_pixels(dataset, spec, spec.stored[:, :, number : number + 1])
        _VENDOR_HABITS[spec.vendor](dataset, spec, number)
        if spec.edit:
            spec.edit(dataset, number)
    return dataset


def patient_and_study(spec: SeriesSpec) -> Dataset:
    """The patient, study, series and equipment modules, full of things that must not be shown."""
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.PatientName, dataset.PatientID = spec.patient, spec.patient_id
    dataset.PatientBirthDate, dataset.PatientSex, dataset.PatientAge = "19470331", "F", "072Y"
    dataset.OtherPatientIDs, dataset.PatientComments = "GEHEIM-OTHER", "GEHEIM: lives next door"
    dataset.StudyDate = dataset.SeriesDate = dataset.AcquisitionDate = dataset.ContentDate = "20190817"
    dataset.StudyTime = dataset.SeriesTime = dataset.AcquisitionTime = dataset.ContentTime = "112233.445"
    dataset.AccessionNumber, dataset.StudyID = "GEHEIM-ACC", "GEHEIM-ST"
    dataset.InstitutionName, dataset.ReferringPhysicianName = "GEHEIM KLINIK", "GEHEIM^DOCTOR"
    dataset.Modality = spec.modality
    dataset.SeriesDescription, dataset.ProtocolName = spec.description, "test protocol"
    dataset.BodyPartExamined = "ABDOMEN"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = spec.study_uid, spec.series_uid
    dataset.FrameOfReferenceUID = spec.frame_of_reference
    dataset.SeriesNumber, dataset.AcquisitionNumber = spec.series_number, 1
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.Manufacturer = "Plain"
    return dataset


def fill_pixels(dataset: Dataset, spec: SeriesSpec, stored: np.ndarray) -> None:
    """The image pixel module for stored values [I, J, n], one frame for each of the last axis."""
    high_bit = spec.bits_stored - 1 if spec.high_bit is None else spec.high_bit
    planes = stored.transpose(2, 1, 0) << (high_bit - spec.bits_stored + 1)
    if spec.has_junk_bits:
        used = (1 << (high_bit + 1)) - 1
        above = ((1 << spec.bits_allocated) - 1) & ~used
        planes = (planes & used) | above
    dataset.Rows, dataset.Columns = spec.shape[1], spec.shape[0]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, spec.photometric
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = (
        spec.bits_allocated,
        spec.bits_stored,
        high_bit,
    )
    dataset.PixelRepresentation = int(spec.is_signed)
    dataset.PixelData = pixel_bytes(
        planes,
        syntax=spec.syntax,
        bits_stored=spec.bits_stored,
        bits_allocated=spec.bits_allocated,
        is_signed=spec.is_signed,
        fragments=spec.fragments,
    )
    is_packed = TRANSFER_SYNTAXES[spec.syntax].is_encapsulated
    dataset["PixelData"].VR = "OB" if is_packed or spec.bits_allocated == 8 else "OW"
    dataset["PixelData"].is_undefined_length = is_packed
    if spec.syntax == "jpeg-12bit":
        dataset.LossyImageCompression, dataset.LossyImageCompressionRatio = "01", "2"


def save(dataset: Dataset, path: Path, spec: SeriesSpec) -> Path:
    """Write a data set the way the spec says: transfer syntax, preamble or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    uid = TRANSFER_SYNTAXES[spec.syntax]
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\0\1"
    meta.MediaStorageSOPClassUID = dataset.get("SOPClassUID", _SOP_CLASSES["CT"])
    meta.MediaStorageSOPInstanceUID = dataset.get("SOPInstanceUID", "1.2.3")
    meta.TransferSyntaxUID = uid
    meta.ImplementationClassUID = "1.2.826.0.1.999"
    file = FileDataset(str(path), dataset, preamble=bytes(128), file_meta=meta)
    order = {"implicit_vr": uid.is_implicit_VR, "little_endian": uid.is_little_endian}
    with config.disable_value_validation():
        if spec.preamble == "full":
            dcmwrite(path, file, enforce_file_format=True, overwrite=True)
        else:
            file.preamble = None
            if spec.preamble == "bare":
                file.file_meta = FileMetaDataset()
            dcmwrite(path, file, enforce_file_format=False, overwrite=True, **order)
    return path


def raw_value(dataset: Dataset, keyword: str, vr: str, value: bytes) -> None:
    """Store a value as these bytes, right or wrong (for files in explicit or implicit little endian)."""
    tag: BaseTag = Tag(keyword)
    value += b" " * (len(value) % 2)
    dataset[tag] = RawDataElement(tag, vr, len(value), value, 0, False, True)


def short(value: float) -> str:
    """A number as DS: the most digits that 16 characters hold."""
    for digits in range(17, 0, -1):
        text = f"{float(value):.{digits}g}"
        if len(text) <= 16:
            return text
    raise ValueError(f"{value} does not fit 16 characters.")


def write_dicomdir(folder: Path, written: Iterable[Written]) -> Path:
    """Copy the series into a file set of its own (folders and 8-letter names) with a DICOMDIR; its path."""
    with config.disable_value_validation(), warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # pydicom leaves its staging folder to the collector
        files = FileSet()
        for series in written:
            for file in series.files:
                files.add(file)
        files.write(folder)
        del files
        gc.collect()
    return folder / "DICOMDIR"


def zip_folder(folder: Path, archive: Path) -> Path:
    """All files of a folder in a zip archive, names kept."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as target:
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            target.write(file, file.relative_to(folder))
    return archive


def _fill_geometry(dataset: Dataset, spec: SeriesSpec, number: int) -> None:
    dataset.ImagePositionPatient = [short(value) for value in spec.slice_positions[number]]
    dataset.ImageOrientationPatient = [short(value) for value in spec.cosines.ravel()]
    dataset.PixelSpacing = [short(spec.spacing_mm[1]), short(spec.spacing_mm[0])]
    dataset.SliceThickness = short(spec.spacing_mm[2])
    dataset.PatientPosition = "HFS"


def _plain(dataset: Dataset, spec: SeriesSpec, number: int) -> None:
    """No habits."""


def _siemens(dataset: Dataset, spec: SeriesSpec, number: int) -> None:
    """Numbers with many digits, long image types, CSA headers as private OB."""
    dataset.Manufacturer = "SIEMENS"
    dataset.ImageType = (
        ["ORIGINAL", "PRIMARY", "AXIAL", "CT_SOM5 SPI"]
        if spec.modality == "CT"
        else ["ORIGINAL", "PRIMARY", "M", "ND"]
    )
    dataset.SliceThickness = short(spec.spacing_mm[2] * 1.2)
    dataset.ConvolutionKernel = ["I31f", "3"] if spec.modality == "CT" else None
    dataset.ImagePositionPatient = [f"{value:.8e}"[:16] for value in spec.slice_positions[number]]
    dataset.PatientPosition = "FFS"
    block = dataset.private_block(0x0029, "SIEMENS CSA HEADER", create=True)
    block.add_new(0x10, "OB", b"SV10\4\3\2\1" + bytes(range(64)))
    block.add_new(0x18, "CS", "CT")


def _ge(dataset: Dataset, spec: SeriesSpec, number: int) -> None:
    """Padding outside the circle, private groups before the image groups, no unit of the rescale."""
    dataset.Manufacturer = "GE MEDICAL SYSTEMS"
    dataset.SpacingBetweenSlices = short(spec.spacing_mm[2] / 2)
    dataset.TableHeight, dataset.GantryDetectorTilt = "150.5", "0.0"
    block = dataset.private_block(0x0009, "GEMS_IDEN_01", create=True)
    block.add_new(0x01, "LO", "CT_LIGHTSPEED")
    block.add_new(0x27, "SL", 1566040953)
    dataset.private_block(0x0043, "GEMS_PARM_01", create=True).add_new(0x10, "US", 400)


def _philips(dataset: Dataset, spec: SeriesSpec, number: int) -> None:
    """Private sequences with image elements inside, SpacingBetweenSlices without its gap, times by slice."""
    dataset.Manufacturer = "Philips Medical Systems"
    dataset.SpacingBetweenSlices = short(spec.spacing_mm[2] * 0.8)
    dataset.RescaleType = "HU" if spec.modality == "CT" else "normalized"
    dataset.ContentTime = f"1122{33 + number % 20:02d}.445"
    inner = Dataset()
    inner.RescaleSlope, inner.RescaleIntercept = "99", "-99"
    inner.ImagePositionPatient = ["1", "2", "3"]
    dataset.private_block(0x2005, "Philips MR Imaging DD 001", create=True).add_new(0x0E, "SQ", [inner])


def _canon(dataset: Dataset, spec: SeriesSpec, number: int) -> None:
    """Few attributes: no thickness, no frame of reference text, empty values, instance numbers from 0."""
    dataset.Manufacturer = "TOSHIBA"
    dataset.SliceThickness = None
    dataset.PositionReferenceIndicator = ""
    dataset.BodyPartExamined = ""
    dataset.InstanceNumber = number
    dataset.ExposureTime, dataset.XRayTubeCurrent = 500 + number, 200 - number
    dataset.private_block(0x7005, "TOSHIBA_MEC_CT3", create=True).add_new(0x0B, "UN", b"\1\2\3\4")


_VENDOR_HABITS = {"plain": _plain, "siemens": _siemens, "ge": _ge, "philips": _philips, "canon": _canon}
