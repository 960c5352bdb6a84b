"""The options of every verb that reads a DICOM series."""

from typing import Annotated

import typer

Series = Annotated[
    str | None,
    typer.Option(
        "--series",
        metavar="KEY",
        help="Which DICOM series: a key of `volseg inspect`, a UID or its ending.",
        show_default=False,
    ),
]
AllowGaps = Annotated[
    bool, typer.Option("--allow-gaps", help="Fill missing and irregular DICOM slices by resampling.")
]
Join = Annotated[
    bool, typer.Option("--join", help="Put series together that are one volume sent under several UIDs.")
]
