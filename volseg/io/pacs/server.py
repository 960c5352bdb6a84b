"""What every connection to a PACS offers, whichever protocol it speaks, and how it keeps quiet about patients."""

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from volseg.io.pacs.instances import Instance

_TALKATIVE = ("pynetdicom", "dicomweb_client", "pydicom", "urllib3")
"""Loggers that name patients: whole data sets, or addresses with the patient's ID in the query."""


@dataclass(frozen=True, slots=True)
class SeriesQuery:
    """Which series to look for; what is empty matches anything."""

    study_uid: str = ""
    series_uid: str = ""
    modality: str = ""
    patient_id: str = field(default="", repr=False)
    identity: bool = False
    """Also ask for the patients' names and IDs."""


@dataclass(frozen=True, slots=True)
class FoundSeries:
    """A series as the server describes it."""

    study_uid: str
    series_uid: str
    modality: str = ""
    description: str = ""
    instances: int | None = None
    """NumberOfSeriesRelatedInstances (0020,1209); None where the server does not say."""
    sop_classes: tuple[str, ...] = ()
    """Of its instances, where known; a search for series does not tell."""
    patient_id: str = field(default="", repr=False)
    """Empty unless identity was asked for."""
    patient_name: str = field(default="", repr=False)


class Server(Protocol):
    """A PACS. Every method may raise InputError: it cannot be reached, does not know us, or does not understand.

    `str()` is its address for messages, without user and password.
    """

    def find(self, query: SeriesQuery) -> list[FoundSeries]:
        """The series that match."""
        ...

    def instances(self, series: FoundSeries) -> dict[str, str]:
        """SOP class UID (empty where unknown) of each instance of a series, by SOP instance UID."""
        ...

    def fetch(self, series: FoundSeries, keep: Callable[[str, bytes], None]) -> None:
        """Receive a series: `keep` gets each SOP instance UID and its file, as it arrives."""
        ...

    def store(self, instances: Sequence[Instance]) -> Iterator[tuple[Instance, str]]:
        """Send instances one by one; yields each with the reason why it was not stored, empty if it was."""
        ...


@contextmanager
def discreet() -> Iterator[None]:
    """Let the network and DICOM libraries log and warn of nothing: what they say may name the patient."""
    loggers = [logging.getLogger(name) for name in _TALKATIVE]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
