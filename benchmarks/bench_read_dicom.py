"""Reading a CT series of 400 slices of 512 x 512 (210 MB, uncompressed) from a folder: volseg beside SimpleITK.

    python benchmarks/bench_read_dicom.py [runs]

SimpleITK reads as its users do: GetGDCMSeriesFileNames, then ImageSeriesReader. volseg.io.read_volume also sorts and
fits positions, compares every header, checks lengths and looks for other series. Both give the same HU, which is
checked before anything is timed. The runs alternate, each in a process of its own (start and imports not counted) on
files that are in the page cache. Wall and CPU seconds of all threads: the peers use different numbers of threads.
Prints one JSON line each, with the ratio of the medians of that session.
"""

import json
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import SimpleITK
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from volseg.io import read_volume

SHAPE = (512, 512, 400)
SPACING_MM = (0.78125, 0.78125, 0.7)
SERIES_UID = "1.2.826.0.1.999.3.1"


def setup(folder: Path) -> None:
    """Write the series: signed 16 bits, a header of about 100 elements, file names not in the order of slices."""
    noise = np.random.default_rng(0).normal(scale=11, size=SHAPE[:2])
    dataset = _header()
    for number in range(SHAPE[2]):
        dataset.SOPInstanceUID = f"{SERIES_UID}.{number + 1}"
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.InstanceNumber = SHAPE[2] - number
        dataset.ImagePositionPatient = [-200, -180.5, round(-500 + number * SPACING_MM[2], 4)]
        dataset.SliceLocation = round(-500 + number * SPACING_MM[2], 4)
        dataset.ContentTime = f"1015{number % 60:02d}.125"
        dataset.PixelData = (np.roll(noise, number * 977) + 1024 + number).astype("<i2").tobytes()
        name = f"IM{number * 7919 % 9973:05d}.dcm"
        dataset.save_as(folder / name, enforce_file_format=True)


def _header() -> FileDataset:
    """What a CT scanner writes: 60 usual elements and 45 private ones."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = CTImageStorage, ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    dataset.SOPClassUID = CTImageStorage
    texts = {
        "SpecificCharacterSet": "ISO_IR 100", "StudyDate": "20240102", "SeriesDate": "20240102",
        "AcquisitionDate": "20240102", "ContentDate": "20240102", "StudyTime": "101010", "SeriesTime": "101020",
        "AcquisitionTime": "101030.5", "AccessionNumber": "1", "Modality": "CT", "Manufacturer": "SYNTHETIC",
        "InstitutionName": "none", "ReferringPhysicianName": "none", "StationName": "CT1", "StudyDescription": "CT",
        "SeriesDescription": "body 0.7", "ManufacturerModelName": "none", "PatientName": "none", "PatientID": "none",
        "PatientBirthDate": "", "PatientSex": "O", "PatientAge": "050Y", "PatientWeight": "70",
        "ContrastBolusAgent": "yes", "BodyPartExamined": "ABDOMEN", "ScanOptions": "HELICAL", "SliceThickness": "1",
        "KVP": "120", "DataCollectionDiameter": "500", "DeviceSerialNumber": "1", "SoftwareVersions": "1",
        "ProtocolName": "body", "ReconstructionDiameter": "400", "DistanceSourceToDetector": "1085",
        "DistanceSourceToPatient": "595", "GantryDetectorTilt": "0", "TableHeight": "150", "RotationDirection": "CW",
        "ExposureTime": "500", "XRayTubeCurrent": "200", "Exposure": "100", "FilterType": "FLAT",
        "GeneratorPower": "24", "FocalSpots": "1.2", "ConvolutionKernel": "B31f", "PatientPosition": "HFS",
        "StudyInstanceUID": "1.2.826.0.1.999.3", "SeriesInstanceUID": SERIES_UID, "StudyID": "1",
        "SeriesNumber": "2", "AcquisitionNumber": "1", "FrameOfReferenceUID": "1.2.826.0.1.999.3.9",
        "PositionReferenceIndicator": "", "PhotometricInterpretation": "MONOCHROME2", "WindowCenter": "40",
        "WindowWidth": "400", "RescaleIntercept": "-1024", "RescaleSlope": "1", "RescaleType": "HU",
    }  # fmt: skip
    for keyword, text in texts.items():
        setattr(dataset, keyword, text)
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.PixelSpacing = list(SPACING_MM[:2])
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = SHAPE[1], SHAPE[0], 1
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 1
    for group in (0x0009, 0x0019, 0x0043):
        block = dataset.private_block(group, "SYNTHETIC", create=True)
        for element in range(15):
            block.add_new(0x10 + element, "LO", f"private value {element}")
    return dataset


def read_with_volseg(folder: Path) -> Callable[[], np.ndarray]:
    return lambda: read_volume(folder).array[0]


def read_with_simpleitk(folder: Path) -> Callable[[], SimpleITK.Image]:
    def read() -> SimpleITK.Image:
        reader = SimpleITK.ImageSeriesReader()
        reader.SetFileNames(SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))
        return reader.Execute()

    return read


RUNS = {"volseg": read_with_volseg, "simpleitk": read_with_simpleitk}


def run(name: str, folder: Path) -> dict[str, float]:
    """Wall and CPU seconds of one run in this process, and its peak memory over imports."""
    work = RUNS[name](folder)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start, cpu_start = time.perf_counter(), time.process_time()
    work()
    return {
        "wall_s": time.perf_counter() - start,
        "cpu_s": time.process_time() - cpu_start,
        "peak_mib": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024,
    }


def compare(folder: Path) -> None:
    """End with an error unless both read the same values."""
    other = SimpleITK.GetArrayFromImage(read_with_simpleitk(folder)()).T
    if not np.array_equal(read_with_volseg(folder)(), other):
        raise SystemExit("volseg and SimpleITK read different values.")


def alternate(runs: int, folder: Path) -> dict[str, list[dict[str, float]]]:
    """Both in turn, each run in its own process."""
    results: dict[str, list[dict[str, float]]] = {name: [] for name in RUNS}
    for _ in range(runs):
        for name, seen in results.items():
            command = [sys.executable, __file__, "--one", name, str(folder)]
            seen.append(
                json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            )
    return results


def main() -> None:
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(run(sys.argv[2], Path(sys.argv[3]))))
        return
    steps = {"--setup": setup, "--compare": compare}
    if sys.argv[1:2] and sys.argv[1] in steps:
        steps[sys.argv[1]](Path(sys.argv[2]))
        return
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    with tempfile.TemporaryDirectory() as name:
        # A child inherits the peak of its parent, so the large steps are processes of their own too.
        for step in steps:
            subprocess.run([sys.executable, __file__, step, name], check=True)
        results = alternate(runs, Path(name))
    medians = {
        n: {key: statistics.median(r[key] for r in seen) for key in seen[0]} for n, seen in results.items()
    }
    for library, median in medians.items():
        line = {
            "benchmark": "read DICOM series 512x512x400",
            "library": library,
            **{key: round(value, 3) for key, value in median.items()},
            "wall_of_volseg": round(median["wall_s"] / medians["volseg"]["wall_s"], 2),
            "cpu_of_volseg": round(median["cpu_s"] / medians["volseg"]["cpu_s"], 2),
            "runs": runs,
            "python": platform.python_version(),
            "machine": platform.machine(),
        }
        print(json.dumps(line))


if __name__ == "__main__":
    main()
