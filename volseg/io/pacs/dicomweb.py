"""A PACS over DICOMweb (PS3.18): QIDO-RS to find, WADO-RS to fetch, STOW-RS to store."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from dicomweb_client import DICOMwebClient
from pydicom.dataset import Dataset
from requests.auth import HTTPBasicAuth

from volseg.errors import FileFormatError, InputError
from volseg.io.pacs.instances import BROKEN, Instance, encode, is_whole, read_instance
from volseg.io.pacs.server import FoundSeries, SeriesQuery

_LOGGER = logging.getLogger(__name__)
_OURSELVES = ("localhost", "127.0.0.1", "::1")
_TIMEOUT_S = (10, 120)
"""To connect, and between two pieces of an answer."""
_AS_STORED = (("application/dicom", "*"),)
"""The media type of instances in the transfer syntax they are stored in."""
_NO_CONNECTION = (
    requests.ConnectionError,
    requests.exceptions.ChunkedEncodingError,
    requests.exceptions.InvalidURL,
)
_FATAL = {401, 403, 404, 405, 501, 503}
"""HTTP statuses that every further request would meet as well."""


@dataclass(frozen=True)
class DicomWeb:
    """The root of a DICOMweb service, such as https://pacs.example/dicom-web.

    Raises:
        InputError: the address is no http or https URL, or holds a user, a query or a fragment.
    """

    url: str
    user: str = ""
    password: str = field(default="", repr=False)
    ca_file: Path | None = None
    """Certificates (PEM) to trust in place of the public ones; hospitals often sign their own."""

    def __post_init__(self) -> None:
        """Check the address, and forget a slash at its end."""
        try:
            parts = urlsplit(self.url)
            usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            parts, usable = urlsplit(""), False
        if "@" in parts.netloc or parts.query or parts.fragment:
            raise InputError(
                "The DICOMweb address holds a user, a password or a query. Give the plain address, such as "
                "https://pacs.example/dicom-web, and the user apart from it."
            )
        if not usable:
            raise InputError(
                f"{self.url!r} is no DICOMweb address. Expected the http or https root of the service, such as "
                "https://pacs.example/dicom-web."
            )
        object.__setattr__(self, "url", self.url.rstrip("/"))
        if self.user and parts.scheme == "http" and parts.hostname not in _OURSELVES:
            _LOGGER.warning("%s is no https address: the password travels in the clear.", self)

    def __str__(self) -> str:
        """The address."""
        return self.url

    def find(self, query: SeriesQuery) -> list[FoundSeries]:
        """Search for series (QIDO-RS)."""
        filters = {
            "SeriesInstanceUID": query.series_uid,
            "Modality": query.modality,
            "PatientID": query.patient_id,
        }
        fields = ["StudyInstanceUID", "Modality", "SeriesDescription", "NumberOfSeriesRelatedInstances"]
        if query.identity:
            fields += ["PatientID", "PatientName"]

        def search(client: DICOMwebClient, offset: int) -> list[dict[str, Any]]:
            return client.search_for_series(
                query.study_uid or None,
                fields=fields,
                search_filters={key: value for key, value in filters.items() if value},
                offset=offset or None,
            )

        found = []
        for answer in self._search(search, "0020000E"):
            study_uid = _text(answer, "0020000D") or query.study_uid
            count = _text(answer, "00201209")
            found.append(
                FoundSeries(
                    study_uid=study_uid,
                    series_uid=_text(answer, "0020000E"),
                    modality=_text(answer, "00080060"),
                    description=_text(answer, "0008103E"),
                    instances=int(count) if count.isdigit() else None,
                    patient_id=_text(answer, "00100020") if query.identity else "",
                    patient_name=_text(answer, "00100010") if query.identity else "",
                )
            )
        return found

    def instances(self, series: FoundSeries) -> dict[str, str]:
        """List the instances of a series (QIDO-RS)."""

        def search(client: DICOMwebClient, offset: int) -> list[dict[str, Any]]:
            return client.search_for_instances(series.study_uid, series.series_uid, offset=offset or None)

        answers = self._search(search, "00080018")
        return {_text(answer, "00080018"): _text(answer, "00080016") for answer in answers}

    def fetch(self, series: FoundSeries, keep: Callable[[str, bytes], None]) -> None:
        """Retrieve a series (WADO-RS), streamed, as it is stored where the server can do that."""
        with self._client() as client, self._explained():
            broken = 0
            for dataset in self._retrieve(client, series):
                if is_whole(dataset):
                    keep(str(dataset.SOPInstanceUID), encode(dataset))
                else:
                    broken += 1
            if broken:
                raise InputError(
                    f"Instances that end before their data do: {broken}. Fetch the series again."
                )

    def store(self, instances: Sequence[Instance]) -> Iterator[tuple[Instance, str]]:
        """Store instances (STOW-RS), one for each request, so that each has its own answer."""
        with self._client() as client:
            for instance in instances:
                yield instance, self._store(client, instance)

    def _store(self, client: DICOMwebClient, instance: Instance) -> str:
        try:
            dataset = read_instance(instance.file)
        except FileFormatError as error:
            return str(error)
        try:
            with self._explained():
                answer = client.store_instances([dataset])
        except _RefusedError as error:
            return str(error)
        return _verdict(answer, instance)

    def _retrieve(self, client: DICOMwebClient, series: FoundSeries) -> Iterator[Dataset]:
        try:
            return client.iter_series(series.study_uid, series.series_uid, media_types=_AS_STORED)
        except requests.HTTPError as error:
            if _status(error) not in (400, 406, 415):
                raise
            # a server without the wildcard of PS3.18 8.7.3.5.2; it then chooses the transfer syntax
            return client.iter_series(series.study_uid, series.series_uid)

    def _search(
        self, search: Callable[[DICOMwebClient, int], list[dict[str, Any]]], key: str
    ) -> list[dict[str, Any]]:
        """All answers, page by page, until a page brings nothing new (some servers ignore the offset)."""
        found: dict[str, dict[str, Any]] = {}
        with self._client() as client, self._explained():
            while True:
                page = {_text(answer, key): answer for answer in search(client, len(found))}
                new = {uid: answer for uid, answer in page.items() if uid and uid not in found}
                if not new:
                    return list(found.values())
                found.update(new)

    @contextmanager
    def _client(self) -> Iterator[DICOMwebClient]:
        with requests.Session() as session:
            session.trust_env = False  # no proxy, password or certificate from the environment: options only
            session.verify = str(self.ca_file) if self.ca_file else True
            if self.user:
                session.auth = HTTPBasicAuth(self.user.encode(), self.password.encode())
            client = DICOMwebClient(self.url, session=session, permissive_uid=True, timeout=_TIMEOUT_S)
            client.set_http_retry_params(retry=False)  # a repeated upload would send an empty body
            yield client

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn what requests raises into a paragraph; its own messages quote addresses, patient ID and all."""
        try:
            yield
        except requests.HTTPError as error:
            status = _status(error)
            kind = InputError if status in _FATAL else _RefusedError
            raise kind(f"{self} {_STATUSES.get(status, f'answered with HTTP status {status}.')}") from None
        except requests.exceptions.SSLError:
            raise InputError(
                f"{self}: the server's certificate is not trusted. Give the hospital's own certificates as CA file."
            ) from None
        except requests.Timeout:
            raise InputError(f"{self} did not answer in time. Check address and network.") from None
        except _NO_CONNECTION:
            raise InputError(
                f"{self} cannot be reached, or ended the connection. Check address, port and network."
            ) from None
        except (requests.RequestException, *BROKEN):
            raise InputError(
                f"{self} sent something that is not DICOMweb. Is this the root of its DICOMweb service, such as "
                "https://pacs.example/dicom-web?"
            ) from None


class _RefusedError(InputError):
    """A request the server refused, while others may pass."""


_STATUSES = {
    401: "wants a user and a password, or does not accept these (HTTP status 401).",
    403: "does not allow this (HTTP status 403). Ask its administrator for the right to read or store.",
    404: "has nothing at this address (HTTP status 404). Is it the root of the DICOMweb service?",
    405: "does not offer this service (HTTP status 405). Is it the root of the DICOMweb service?",
    406: "cannot send instances in the form asked for (HTTP status 406).",
    409: "refused the instance (HTTP status 409).",
    413: "takes no instance as large as this (HTTP status 413).",
    415: "does not take this kind of instance (HTTP status 415).",
}


def _status(error: requests.HTTPError) -> int:
    return 0 if error.response is None else error.response.status_code


def _text(answer: Mapping[str, Any], tag: str) -> str:
    """The first value of an attribute of DICOM JSON (PS3.18 F.2), empty where absent."""
    element = answer.get(tag)
    values = element.get("Value") if isinstance(element, dict) else None
    if not isinstance(values, list) or not values or values[0] is None:
        return ""
    first = values[0]
    return str(first.get("Alphabetic", "") if isinstance(first, dict) else first).strip("\0 ")


def _verdict(answer: Dataset, instance: Instance) -> str:
    """Why the server did not store an instance, empty if it says that it did (PS3.18 I.2.2)."""
    for item in answer.get("FailedSOPSequence", []):
        return f"refused with reason 0x{int(item.get('FailureReason', 0)):04X}"
    stored = [
        str(item.get("ReferencedSOPInstanceUID", "")) for item in answer.get("ReferencedSOPSequence", [])
    ]
    return "" if instance.sop_uid in stored else "the server did not confirm it"
