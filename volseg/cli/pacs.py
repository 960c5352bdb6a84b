"""`volseg pacs`: find series in a PACS, fetch one, store results."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from volseg.cli.table import print_table
from volseg.errors import ConfigError

if TYPE_CHECKING:
    from volseg.io.pacs import FoundSeries, Server

pacs_app = typer.Typer(
    name="pacs",
    help="Find and fetch series of a PACS, and store results in it.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Web = Annotated[str, typer.Option("--dicomweb", metavar="URL", help="Root of the DICOMweb service.")]
Node = Annotated[
    str, typer.Option("--dimse", metavar="HOST:PORT", help="The DICOM node (C-FIND, C-GET, C-STORE).")
]
Called = Annotated[str, typer.Option("--called", metavar="AET", help="With --dimse: its AE title.")]
Calling = Annotated[str, typer.Option("--aet", metavar="AET", help="With --dimse: our AE title.")]
User = Annotated[
    str, typer.Option("--user", help="With --dicomweb: user; the password is asked for, or read from a file.")
]
PasswordFile = Annotated[
    Path | None, typer.Option("--password-file", help="With --user: first line of this file is the password.")
]
CaFile = Annotated[
    Path | None,
    typer.Option("--ca-file", help="With --dicomweb: certificates (PEM) to trust, for a hospital's own."),
]
Study = Annotated[str, typer.Option("--study", metavar="UID", help="StudyInstanceUID.")]


@pacs_app.command()
def find(
    *,
    study: Study = "",
    modality: Annotated[str, typer.Option("--modality", help="Such as CT, MR or SEG.")] = "",
    patient_id: Annotated[str, typer.Option("--patient-id", help="PatientID.")] = "",
    identity: Annotated[
        bool, typer.Option("--identity", help="Also show the names and IDs of the patients.")
    ] = False,
    dicomweb: Web = "",
    dimse: Node = "",
    called: Called = "ANY-SCP",
    aet: Calling = "VOLSEG",
    user: User = "",
    password_file: PasswordFile = None,
    ca_file: CaFile = None,
) -> None:
    """List series: UIDs, modality, number of instances, description."""
    from volseg.io.pacs import SeriesQuery, find_series

    server = _server(dicomweb, dimse, (called, aet), user, password_file, ca_file)
    query = SeriesQuery(study_uid=study, modality=modality.upper(), patient_id=patient_id, identity=identity)
    _print_series(find_series(server, query), identity=identity)


@pacs_app.command()
def fetch(
    folder: Annotated[Path, typer.Argument(metavar="OUT_DIR", help="Folder for the files; made if need be.")],
    *,
    series: Annotated[str, typer.Option("--series", metavar="UID", help="SeriesInstanceUID.")],
    study: Study = "",
    dicomweb: Web = "",
    dimse: Node = "",
    called: Called = "ANY-SCP",
    aet: Calling = "VOLSEG",
    user: User = "",
    password_file: PasswordFile = None,
    ca_file: CaFile = None,
) -> None:
    """Fetch a series into a folder, every instance or an error."""
    from volseg.io.pacs import fetch_series

    server = _server(dicomweb, dimse, (called, aet), user, password_file, ca_file)
    files = fetch_series(server, series, folder, study_uid=study)
    print(f"fetched {_instances(len(files))} into {folder}")


@pacs_app.command()
def store(
    sources: Annotated[
        list[Path], typer.Argument(metavar="FILE_OR_DIR", help="DICOM files, folders or zip archives.")
    ],
    *,
    dicomweb: Web = "",
    dimse: Node = "",
    called: Called = "ANY-SCP",
    aet: Calling = "VOLSEG",
    user: User = "",
    password_file: PasswordFile = None,
    ca_file: CaFile = None,
) -> None:
    """Send DICOM files to the PACS, as they are."""
    from volseg.io.pacs import store_files

    server = _server(dicomweb, dimse, (called, aet), user, password_file, ca_file)
    report = store_files(server, sources)
    print(f"stored  {_instances(len(report.stored))} at {server}")
    if report.left_out:
        print(f"left out what is no complete DICOM file: {len(report.left_out)}")


def _server(
    dicomweb: str,
    dimse: str,
    titles: tuple[str, str],
    user: str,
    password_file: Path | None,
    ca_file: Path | None,
) -> "Server":
    if bool(dicomweb) == bool(dimse):
        raise ConfigError(
            "Which PACS? Give either --dicomweb URL, such as https://pacs.example/dicom-web, or --dimse HOST:PORT, "
            "such as pacs.example:104."
        )
    from volseg.io.pacs import DicomWeb, Dimse

    if dimse:
        if user or password_file or ca_file:
            raise ConfigError(
                "--user, --password-file and --ca-file belong to --dicomweb. A DICOM node knows its peers by their AE "
                "title: give --aet."
            )
        return Dimse.parse(dimse, called=titles[0], calling=titles[1])
    if ca_file and not ca_file.is_file():
        raise ConfigError(f"{ca_file}: there is no such file. --ca-file takes a file of certificates (PEM).")
    DicomWeb(dicomweb)  # a wrong address is told before a password is asked for
    return DicomWeb(dicomweb, user=user, password=_password(user, password_file), ca_file=ca_file)


def _password(user: str, file: Path | None) -> str:
    if not user:
        if file:
            raise ConfigError("--password-file needs --user: whose password is it?")
        return ""
    if file is None:
        return typer.prompt(f"password of {user}", hide_input=True, err=True)
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} cannot be read. --password-file takes a text file (UTF-8).") from error
    if not lines or not lines[0]:
        raise ConfigError(f"{file} is empty. Its first line should be the password.")
    return lines[0]


def _instances(count: int) -> str:
    return f"{count} instance" if count == 1 else f"{count} instances"


def _print_series(found: list["FoundSeries"], *, identity: bool) -> None:
    if not found:
        print("no series found")
        return
    headers = ["study", "series", "modality", "instances", "description"]
    rows = [
        [
            series.study_uid,
            series.series_uid,
            series.modality,
            "" if series.instances is None else str(series.instances),
            series.description,
        ]
        for series in found
    ]
    if identity:
        headers += ["patient ID", "patient"]
        rows = [[*row, s.patient_id, s.patient_name] for row, s in zip(rows, found, strict=True)]
    print_table(headers, rows)
