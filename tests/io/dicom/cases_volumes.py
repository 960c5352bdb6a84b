"""Cases about which frames make a volume: phases, echoes, duplicates, other files, noise."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset

from tests.dicom_files import SeriesSpec, save, slice_dataset, write_series
from tests.io.dicom.case import (
    Build,
    Exact,
    Expected,
    exact,
    only,
    part,
    refused,
    setting,
    several,
    then,
)

_CT = SeriesSpec()
_MR = SeriesSpec(modality="MR", intercept=0.0, orientation="sagittal", vendor="siemens")


def _two(spec: SeriesSpec, first: dict[str, object], second: dict[str, object]) -> Build:
    """Two volumes at the same positions in one series, told apart by attributes."""
    return several(part(spec, "A", edit=setting(**first)), part(spec, "B", seed=5, edit=setting(**second)))


REPEATED = {
    "two phases by acquisition number and time": _two(
        replace(_CT, vendor="siemens"),
        {"AcquisitionNumber": 1, "AcquisitionTime": "101500.0"},
        {"AcquisitionNumber": 2, "AcquisitionTime": "101600.0"},
    ),
    "two phases by acquisition time of each slice": _two(
        replace(_CT, vendor="ge"),
        {"AcquisitionTime": lambda n: f"1015{n:02d}.0"},
        {"AcquisitionTime": lambda n: f"1016{n:02d}.0"},
    ),
    "two echoes": _two(_MR, {"EchoTime": "4.6", "EchoNumbers": 1}, {"EchoTime": "9.2", "EchoNumbers": 2}),
    "two b-values": _two(
        replace(_MR, orientation="oblique", vendor="philips"),
        {"DiffusionBValue": 0.0},
        {"DiffusionBValue": 800.0},
    ),
    "three temporal positions": several(
        *(
            part(
                _MR, f"T{n}", seed=n, edit=setting(TemporalPositionIdentifier=n, NumberOfTemporalPositions=3)
            )
            for n in (1, 2, 3)
        )
    ),
    "magnitude and phase": _two(
        _MR,
        {"ImageType": ["ORIGINAL", "PRIMARY", "M", "ND"]},
        {"ImageType": ["ORIGINAL", "PRIMARY", "P", "ND"]},
    ),
    "water and fat": _two(
        replace(_MR, vendor="ge"),
        {"ImageType": ["DERIVED", "PRIMARY", "DIXON", "WATER"]},
        {"ImageType": ["DERIVED", "PRIMARY", "DIXON", "FAT"]},
    ),
    "two heart phases": _two(
        replace(_CT, vendor="philips", syntax="jpeg-ls"),
        {"NominalPercentageOfCardiacPhase": 35.0},
        {"NominalPercentageOfCardiacPhase": 75.0},
    ),
    "two inversion times": _two(_MR, {"InversionTime": "200"}, {"InversionTime": "900"}),
    "two trigger times": _two(_MR, {"TriggerTime": "20"}, {"TriggerTime": "420"}),
    "nothing tells them apart": then(
        several(part(_CT, "A"), part(_CT, "B", seed=5)),
        lambda folder: None,
        volumes=[],
        refused=["repeated-positions"],
    ),
    "one slice twice with other content": then(
        exact(_CT),
        lambda folder: save(
            slice_dataset(replace(_CT, seed=5, sop_uid=lambda n: "1.2.3.4"), 3), folder / "again", _CT
        ),
        volumes=[],
        refused=["repeated-positions"],
    ),
    "a second acquisition goes on where the first has not ended": several(
        part(_CT, "A", edit=setting(AcquisitionNumber=1, AcquisitionTime="101500")),
        part(
            _CT,
            "B",
            seed=5,
            first_position=(-31.25, 42.5, 29.5),
            edit=setting(AcquisitionNumber=2, AcquisitionTime="101700"),
        ),
    ),
    "two echoes at positions between each other": several(
        part(_MR, "A", edit=setting(EchoTime="4.6", EchoNumbers=1)),
        part(
            _MR,
            "B",
            seed=5,
            first_position=(-32.5, 42.5, 17.0),
            edit=setting(EchoTime="9.2", EchoNumbers=2),
        ),
    ),
}


def _copy(number: int, name: str) -> Callable[[Path], object]:
    return lambda folder: shutil.copy(folder / f"IM{number * 7919 % 9973:04d}", folder / name)


def _resend(spec: SeriesSpec) -> Callable[[Path], object]:
    """The same content under new SOP instance UIDs."""
    return lambda folder: write_series(
        folder / "again", replace(spec, sop_uid=lambda number: f"1.2.826.0.1.999.55.{number}")
    )


DUPLICATES = {
    "one file twice": then(exact(_CT), _copy(2, "copy of it"), dropped={"duplicate": 1}),
    "a whole folder twice": then(
        exact(replace(_CT, vendor="ge")),
        lambda folder: write_series(folder / "backup", replace(_CT, vendor="ge")),
        dropped={"duplicate": 7},
    ),
    "the same content under new UIDs": then(exact(_CT), _resend(_CT), dropped={"duplicate": 7}),
    "the same content under new UIDs, packed": then(
        exact(replace(_CT, orientation="coronal")),
        _resend(replace(_CT, orientation="coronal", syntax="rle")),
        dropped={"duplicate": 7},
    ),
    "the same content under new UIDs, other times": then(
        exact(_MR),
        _resend(replace(_MR, edit=setting(ContentTime="235959", InstanceCreationTime="235959"))),
        dropped={"duplicate": 7},
    ),
}


def _other(name: str, spec: SeriesSpec, number: int = 0) -> Callable[[Path], object]:
    """One more file, of the same series."""
    changed = replace(spec, sop_uid=lambda _: "1.2.826.0.1.999.44")
    return lambda folder: save(slice_dataset(changed, number), folder / name, changed)


def _no_image(folder: Path) -> None:
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.104.1", "1.2.3.9"
    dataset.Modality, dataset.PatientName = "DOC", "GEHEIM^NAME"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2.3", "1.2.3.1"
    dataset.MIMETypeOfEncapsulatedDocument, dataset.EncapsulatedDocument = "application/pdf", b"%PDF"
    save(dataset, folder / "report", _CT)


_SCOUT = SeriesSpec(
    shape=(9, 8, 1), orientation="coronal", edit=setting(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
)
_SCREEN = SeriesSpec(
    shape=(9, 8, 1),
    edit=setting(
        SOPClassUID="1.2.840.10008.5.1.4.1.1.7",
        ImageType=["DERIVED", "SECONDARY", "SCREEN SAVE"],
        ImagePositionPatient=None,
        ImageOrientationPatient=None,
        PixelSpacing=None,
        ConversionType="WSD",
    ),
)

OTHER_FILES = {
    "a scout in the series": then(exact(_CT), _other("scout", _SCOUT), dropped={"scout": 1}),
    "a screenshot in the series": then(exact(_CT), _other("shot", _SCREEN), dropped={"screenshot": 1}),
    "a slice of another matrix": then(
        exact(_CT), _other("odd", SeriesSpec(shape=(4, 4, 1))), dropped={"other-matrix": 1}
    ),
    "a sagittal reformat in an axial series": then(
        exact(_CT), _other("mpr", SeriesSpec(orientation="sagittal")), dropped={"other-orientation": 1}
    ),
    "a text file, an empty file, a folder's droppings": then(
        exact(replace(_CT, vendor="canon")),
        lambda folder: [
            (folder / name).write_bytes(content)
            for name, content in {
                "readme.dcm": b"no image here\n",
                "empty.dcm": b"",
                ".DS_Store": b"\0\0\0\1Bud1",
                "Thumbs.db": b"\xd0\xcf\x11\xe0",
            }.items()
        ],
        dropped={"not-dicom": 4},
    ),
    "a PDF report": then(exact(_CT), _no_image, dropped={"not-image": 1}),
    "a file cut in its header": then(
        exact(_CT),
        lambda folder: (folder / "cut").write_bytes((folder / "IM0000").read_bytes()[:700]),
        dropped={"unreadable": 1},
    ),
    "a mosaic": refused(
        replace(_MR, shape=(6, 5, 1), edit=setting(ImageType=["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"])),
        "mosaic",
    ),
}

NOISE = {
    "exposure, thickness and kernel change": exact(
        replace(
            _CT,
            edit=setting(
                XRayTubeCurrent=lambda n: 100 + 13 * n,
                Exposure=lambda n: 50 + n,
                SliceThickness=lambda n: str(2.5 + 0.01 * n),
                ConvolutionKernel=lambda n: ["B31f", "b31f ", "B31F"][n % 3],
            ),
        )
    ),
    "acquisition number changes from slice to slice": exact(
        replace(_CT, vendor="ge", edit=setting(AcquisitionNumber=lambda n: n + 1))
    ),
    "two acquisitions follow each other along the table": exact(
        replace(
            _CT,
            vendor="siemens",
            edit=setting(
                AcquisitionNumber=lambda n: 1 + n // 4, AcquisitionTime=lambda n: f"10{n // 4:02d}00"
            ),
        )
    ),
    "times change from slice to slice": exact(
        replace(_CT, vendor="philips", edit=setting(AcquisitionTime=lambda n: f"10{59 - n:02d}00.5"))
    ),
    "echo time 4.60 and 4.6": exact(replace(_MR, edit=setting(EchoTime=lambda n: ["4.60", "4.6"][n % 2]))),
    "odd slices first, as MR acquires": exact(
        replace(
            _MR, edit=setting(AcquisitionTime=lambda n: f"10{n % 2}{n}00", AcquisitionNumber=lambda n: n % 2)
        )
    ),
    "descriptions differ in spaces": exact(
        replace(_CT, edit=setting(SeriesDescription=lambda n: ["abdomen", "abdomen "][n % 2]))
    ),
    "frame of reference in some slices only": exact(
        replace(_CT, edit=only(3, setting(FrameOfReferenceUID=None)))
    ),
}


def _halves(*, join: bool, interleaved: bool) -> Build:
    """One volume whose slices were sent under two series UIDs."""

    def build(folder: Path) -> Expected:
        written = write_series(folder, _CT)
        second = [n for n in range(7) if (n % 2 if interleaved else n > 3)]
        for number in second:
            dataset = dcmread(written.files[number])
            dataset.SeriesInstanceUID = "1.2.826.0.1.999.1.2"
            dataset.save_as(written.files[number])
        if join:
            return Expected([Exact(written.truth, written.grid)], join=True)
        first = [n for n in range(7) if n not in second]
        return Expected([_some_slices(first), _some_slices(second)])

    return build


def _some_slices(numbers: list[int]) -> Exact:
    step = numbers[1] - numbers[0]
    spec = replace(
        _CT,
        shape=(6, 5, len(numbers)),
        spacing_mm=(0.7, 0.9, 2.5 * step),
        first_position=tuple(_CT.slice_positions[numbers[0]]),
    )
    return Exact(_CT.truth[:, :, numbers], spec.grid)


JOINED = {
    "two UIDs, one above the other, joined": _halves(join=True, interleaved=False),
    "two UIDs in turns, joined": _halves(join=True, interleaved=True),
    "two UIDs, not joined, are two volumes": _halves(join=False, interleaved=False),
    "join leaves other series alone": then(
        several(
            _CT,
            part(
                replace(
                    _CT,
                    orientation="sagittal",
                    series_uid="1.2.826.0.1.999.1.3",
                    frame_of_reference="1.2.826.0.1.999.8",
                ),
                "S",
            ),
        ),
        lambda folder: None,
        join=True,
    ),
}
