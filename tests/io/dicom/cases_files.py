"""Cases about bytes: rescaling, transfer syntaxes, odd headers, containers, damage."""

import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset

from tests.dicom_files import SeriesSpec, raw_value, write_dicomdir, write_series
from tests.io.dicom.case import Build, Exact, Expected, broken, exact, refused, setting, then

_CT = SeriesSpec()
_LARGE = SeriesSpec(shape=(36, 33, 5))
_PT = SeriesSpec(modality="PT", bits_stored=16, intercept=0.0)

VALUES = {
    "PET, another slope in each slice": exact(
        replace(_PT, slope=[0.7 + 0.31 * n for n in range(7)], edit=setting(Units="BQML", DecayFactor="1.07"))
    ),
    "PET, SUV factors are left alone": exact(
        replace(
            _PT, slope=2.5, edit=setting(Units="BQML", PatientWeight="71.5", RescaleType="BQML", SUVType="BW")
        )
    ),
    "fractions of HU": exact(replace(_CT, slope=0.25, intercept=-1024.5, vendor="philips")),
    "slope 1 in all slices but one": exact(replace(_CT, slope=[1, 1, 1, 1.5, 1, 1, 1])),
    "intercept changes": exact(replace(_CT, intercept=[-1024 + n for n in range(7)])),
    "slope 2": exact(replace(_CT, slope=2.0, vendor="ge")),
    "tiny slope": exact(replace(_PT, slope=1.5e-5)),
    "values beyond int16": exact(replace(_CT, bits_stored=16, intercept=0.0)),
    "32 bits": exact(replace(_CT, bits_allocated=32, bits_stored=20, intercept=0.0)),
    "MONOCHROME1 is not inverted": exact(replace(_CT, photometric="MONOCHROME1", vendor="siemens")),
    "no rescale at all": exact(
        replace(_CT, modality="MR", intercept=0.0, edit=setting(RescaleSlope=None, RescaleIntercept=None))
    ),
    "8 bits": exact(replace(_CT, bits_allocated=8, bits_stored=8, intercept=0.0)),
    "signed": exact(replace(_CT, is_signed=True, intercept=0.0, vendor="ge")),
    "signed 12 of 16 bits, the sign not extended": exact(
        replace(_CT, is_signed=True, has_junk_bits=False, edit=lambda data, n: _mask_signs(data))
    ),
    "signed 16 bits": exact(replace(_CT, is_signed=True, bits_stored=16)),
    "high bit 15 of 12 stored": exact(replace(_CT, high_bit=15)),
    "high bit 13 of 12 stored, signed": exact(replace(_CT, high_bit=13, is_signed=True)),
    "junk above the high bit": exact(replace(_CT, has_junk_bits=True)),
    "junk above the high bit, big endian": exact(replace(_CT, has_junk_bits=True, syntax="big-endian")),
}


def _mask_signs(dataset: Dataset) -> None:
    """Bits above the high bit as zeros, also in negative values."""
    words = memoryview(bytearray(dataset.PixelData)).cast("H")
    for at, word in enumerate(words):
        words[at] = word & 0x0FFF
    dataset.PixelData = words.tobytes()


SYNTAXES = {
    **{
        f"{syntax}, {vendor}, {orientation}": exact(
            replace(base, syntax=syntax, vendor=vendor, orientation=orientation, is_signed=is_signed),
            tolerance=tolerance,
        )
        for syntax, vendor, orientation, base, is_signed, tolerance in (
            ("implicit", "ge", "sagittal", _CT, False, 0),
            ("explicit", "philips", "coronal", _CT, True, 0),
            ("deflated", "canon", "prone", _CT, True, 0),
            ("big-endian", "siemens", "decubitus", _CT, True, 0),
            ("rle", "philips", "sagittal", _CT, True, 0),
            ("jpeg-lossless", "siemens", "oblique", _CT, False, 0),
            ("jpeg-lossless", "ge", "axial", replace(_CT, bits_stored=16), True, 0),
            ("jpeg-ls", "ge", "feet-first", _CT, False, 0),
            ("jpeg-ls", "canon", "axial", replace(_CT, bits_stored=16), True, 0),
            ("jpeg2000", "philips", "coronal", _LARGE, False, 0),
            ("jpeg2000", "siemens", "sagittal", replace(_LARGE, bits_stored=16), True, 0),
            ("jpeg-12bit", "siemens", "axial", _CT, False, 3),
            ("jpeg-12bit", "canon", "coronal", _LARGE, False, 3),
        )
    },
    "jpeg-ls in fragments": exact(replace(_LARGE, syntax="jpeg-ls", fragments=3)),
    "jpeg2000 in fragments": exact(replace(_LARGE, syntax="jpeg2000", fragments=4)),
    "jpeg lossless in fragments": exact(replace(_LARGE, syntax="jpeg-lossless", fragments=2)),
}


def _raw(keyword: str, vr: str, text: Callable[[Dataset], str], **more: object) -> SeriesSpec:
    """Default series with one value as odd text."""

    def edit(dataset: Dataset, number: int) -> None:
        raw_value(dataset, keyword, vr, text(dataset).encode())

    return replace(_CT, edit=edit, **more)


def _many_digits(dataset: Dataset) -> str:
    return "\\".join(f"{float(value):.17f}" for value in dataset.ImagePositionPatient)


def _commas(keyword: str) -> Callable[[Dataset], str]:
    return lambda dataset: "\\".join(f"{float(v):.3f}".replace(".", ",") for v in dataset[keyword].value)


def _unknown_characters(folder: Path) -> None:
    for file in folder.iterdir():
        file.write_bytes(file.read_bytes().replace(b"ISO_IR 100", b"ISO_IR 999"))


HEADERS = {
    "DS of over 16 characters": exact(
        _raw("ImagePositionPatient", "DS", _many_digits, orientation="oblique")
    ),
    "comma decimals in the position": exact(
        _raw("ImagePositionPatient", "DS", _commas("ImagePositionPatient"))
    ),
    "comma decimals in the spacing": exact(_raw("PixelSpacing", "DS", _commas("PixelSpacing"))),
    "comma decimals in the slope, implicit": exact(
        _raw("RescaleSlope", "DS", lambda _: "0,5", syntax="implicit", slope=0.5)
    ),
    "spaces and plus signs in numbers": exact(
        _raw("RescaleIntercept", "DS", lambda _: " +5.0E+01 ", intercept=50.0)
    ),
    "no preamble, explicit": exact(replace(_CT, preamble="none")),
    "no preamble, implicit, ge": exact(replace(_CT, preamble="none", syntax="implicit", vendor="ge")),
    "no meta group at all, implicit": exact(replace(_CT, preamble="bare", syntax="implicit")),
    "no meta group at all, explicit, philips": exact(replace(_CT, preamble="bare", vendor="philips")),
    "few attributes": exact(
        replace(
            _CT,
            edit=setting(
                FrameOfReferenceUID=None,
                InstanceNumber=None,
                SliceThickness=None,
                SeriesNumber=None,
                ImageType=None,
                AcquisitionNumber=None,
                AcquisitionTime=None,
                Manufacturer=None,
            ),
        )
    ),
    "empty attributes": exact(
        replace(
            _CT,
            syntax="implicit",
            edit=setting(InstanceNumber="", SliceThickness="", EchoTime="", ImageType="", PatientName=""),
        )
    ),
    "instance number is no number": exact(_raw("InstanceNumber", "IS", lambda _: "1a")),
    "names in Japanese": exact(
        replace(_CT, patient="GEHEIM^名前", edit=setting(SpecificCharacterSet="ISO_IR 192"))
    ),
    "unknown character set": then(exact(_CT), _unknown_characters),
    "position is text": refused(_raw("ImagePositionPatient", "DS", lambda _: "a\\b\\c"), "no-position"),
    "position is not a number": refused(
        _raw("ImagePositionPatient", "DS", lambda _: "nan\\nan\\nan"), "no-position"
    ),
}


def _in_archive(folder: Path) -> Expected:
    written = write_series(folder / "a" / "b", replace(_CT, vendor="ge", syntax="rle"))
    with zipfile.ZipFile(folder / "export.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for number, file in enumerate(written.files):
            archive.write(file, f"DICOM/S1/I{number * 3 % 7}")
            file.unlink()
    return Expected([Exact(written.truth, written.grid)], source="export.zip")


def _on_disc(folder: Path) -> Expected:
    written = write_series(folder / "raw", replace(_CT, vendor="siemens", orientation="sagittal"))
    write_dicomdir(folder / "disc", [written])
    for file in written.files:
        file.unlink()
    return Expected([Exact(written.truth, written.grid)], source="disc/DICOMDIR", dropped={"not-image": 1})


def _slices_in_folders(number: int) -> str:
    return f"level 1/ü {number % 3}/deep/er/{number}"


CONTAINERS = {
    "nested folders, no extension": exact(replace(_CT, file_name=_slices_in_folders)),
    "a zip": _in_archive,
    "a DICOMDIR": _on_disc,
    "wrong extension": exact(replace(_CT, file_name=lambda n: f"{n}.jpg")),
}


def _cut(count: int) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(path.read_bytes()[:-count])


def _zeros_in_pixels(path: Path) -> None:
    """The middle of the codestream overwritten."""
    raw = bytearray(path.read_bytes())
    start = raw.rindex(b"\xe0\x7f\x10\x00")
    middle = (start + len(raw)) // 2
    raw[middle - 100 : middle + 100] = b"\xff\xd9" * 100
    path.write_bytes(raw)


def _short_value(path: Path) -> None:
    """Fewer pixel bytes than rows times columns, in a file that is whole."""
    dataset = dcmread(path)
    dataset.PixelData = dataset.PixelData[:-10]
    dataset.save_as(path)


_BROKEN_LARGE = replace(_LARGE, shape=(36, 33, 7))
DAMAGE: dict[str, Build] = {
    "the last row of a slice is lost": broken(_CT, "truncated", spoil=_cut(12)),
    "the last byte of a slice is lost": broken(
        replace(_CT, syntax="implicit", vendor="ge"), "truncated", spoil=_cut(1)
    ),
    "pixel data shorter than rows times columns": broken(_CT, "truncated", spoil=_short_value),
    "deflated file cut": broken(replace(_CT, syntax="deflated"), "truncated", spoil=_cut(40)),
    "big endian file cut": broken(replace(_CT, syntax="big-endian"), "truncated", spoil=_cut(20)),
    "rle file cut": broken(replace(_BROKEN_LARGE, syntax="rle"), "truncated", spoil=_cut(400)),
    "jpeg-ls file cut": broken(replace(_BROKEN_LARGE, syntax="jpeg-ls"), "truncated", spoil=_cut(400)),
    "jpeg-ls codestream spoiled": broken(
        replace(_BROKEN_LARGE, syntax="jpeg-ls"), "corrupt", spoil=_zeros_in_pixels
    ),
    "jpeg2000 codestream spoiled": broken(
        replace(_BROKEN_LARGE, syntax="jpeg2000"), "corrupt", spoil=_zeros_in_pixels
    ),
    "jpeg lossless codestream spoiled": broken(
        replace(_BROKEN_LARGE, syntax="jpeg-lossless"), "corrupt", spoil=_zeros_in_pixels
    ),
    "jpeg 12 bit codestream spoiled": broken(
        replace(_BROKEN_LARGE, syntax="jpeg-12bit"), "corrupt", spoil=_zeros_in_pixels
    ),
    "rle codestream spoiled": broken(replace(_BROKEN_LARGE, syntax="rle"), "corrupt", spoil=_zeros_in_pixels),
}
