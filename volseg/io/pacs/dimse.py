"""A PACS over the DICOM network protocol (PS3.4, PS3.7): C-ECHO, C-FIND, C-GET and C-STORE."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from pydicom import uid
from pydicom.dataset import Dataset
from pynetdicom import build_context, build_role, evt
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE

from volseg.errors import FileFormatError, InputError, VolsegError
from volseg.io.pacs.association import Peers, associate, check, offers
from volseg.io.pacs.instances import Instance, read_instance
from volseg.io.pacs.server import FoundSeries, SeriesQuery

_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
"""Study Root Query/Retrieve Information Model - FIND."""
_GET = "1.2.840.10008.5.1.4.1.2.2.3"
"""Study Root Query/Retrieve Information Model - GET."""

_SYNTAXES = (
    uid.ExplicitVRLittleEndian,
    uid.ImplicitVRLittleEndian,
    uid.JPEGLosslessSV1,
    uid.JPEG2000Lossless,
    uid.JPEGLSLossless,
    uid.RLELossless,
    uid.JPEG2000,
    uid.JPEGBaseline8Bit,
    uid.JPEGExtended12Bit,
    uid.JPEGLossless,
    uid.JPEGLSNearLossless,
    uid.DeflatedExplicitVRLittleEndian,
    uid.ExplicitVRBigEndian,
    uid.HTJ2KLossless,
    uid.HTJ2KLosslessRPCL,
    uid.HTJ2K,
)
"""What a fetched instance may be stored in, the usual first."""
_USUAL_CLASSES = (
    uid.CTImageStorage,
    uid.MRImageStorage,
    uid.PositronEmissionTomographyImageStorage,
    uid.EnhancedCTImageStorage,
    uid.EnhancedMRImageStorage,
    uid.SegmentationStorage,
    uid.RTStructureSetStorage,
)
"""What is asked for where the server does not tell the SOP classes of a series."""
_MOST_CONTEXTS = 126
"""Of the 128 presentation contexts of an association (PS3.8, 9.3.2.2), without verification and the query."""

_FAILED = 0xA700


@dataclass(frozen=True)
class Dimse:
    """A DICOM network node.

    Raises:
        InputError: the port or an AE title is impossible.
    """

    host: str
    port: int
    called: str = "ANY-SCP"
    """Its AE title."""
    calling: str = "VOLSEG"
    """Our AE title; many servers know their peers by it."""

    def __post_init__(self) -> None:
        """Check port and titles."""
        if not self.host or not 0 < self.port < 65536:
            raise InputError(
                f"{self} is no address of a DICOM node. Expected HOST:PORT, such as pacs.example:104."
            )
        for title in (self.called, self.calling):
            if not re.fullmatch(r"[ -\[\]-~]{1,16}", title) or not title.strip():
                raise InputError(
                    f"{title!r} cannot be an AE title: 1 to 16 ASCII characters without backslash are allowed."
                )

    @classmethod
    def parse(cls, address: str, *, called: str = "ANY-SCP", calling: str = "VOLSEG") -> "Dimse":
        """The node at HOST:PORT; an IPv6 host stands in brackets."""
        match = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^:\s/@]+):([0-9]{1,5})", address)
        if match is None:
            raise InputError(
                f"{address!r} is no address of a DICOM node. Expected HOST:PORT, such as pacs.example:104."
            )
        return cls(match[1].strip("[]"), int(match[2]), called, calling)

    def __str__(self) -> str:
        """The address."""
        return str(self._peers)

    def find(self, query: SeriesQuery) -> list[FoundSeries]:
        """Search for series (C-FIND): first the studies, unless the series is known, then the series of each."""
        found = []
        with associate(self._peers, [build_context(_FIND)]) as association:
            studies = {query.study_uid: Dataset()}
            if query.study_uid or not query.series_uid:
                answers = self._find(association, "STUDY", _study_keys(query))
                studies = {_text(answer, "StudyInstanceUID"): answer for answer in answers}
            for study_uid, study in studies.items():
                for answer in self._find(association, "SERIES", _series_keys(query, study_uid)):
                    count = _text(answer, "NumberOfSeriesRelatedInstances")
                    found.append(
                        FoundSeries(
                            study_uid=_text(answer, "StudyInstanceUID") or study_uid,
                            series_uid=_text(answer, "SeriesInstanceUID"),
                            modality=_text(answer, "Modality"),
                            description=_text(answer, "SeriesDescription"),
                            instances=int(count) if count.isdigit() else None,
                            patient_id=_text(study, "PatientID") if query.identity else "",
                            patient_name=_text(study, "PatientName") if query.identity else "",
                        )
                    )
        return found

    def instances(self, series: FoundSeries) -> dict[str, str]:
        """List the instances of a series (C-FIND)."""
        keys = {
            "StudyInstanceUID": series.study_uid,
            "SeriesInstanceUID": series.series_uid,
            "SOPInstanceUID": "",
            "SOPClassUID": "",
        }
        with associate(self._peers, [build_context(_FIND)]) as association:
            answers = self._find(association, "IMAGE", keys)
        return {_text(answer, "SOPInstanceUID"): _text(answer, "SOPClassUID") for answer in answers}

    def fetch(self, series: FoundSeries, keep: Callable[[str, bytes], None]) -> None:
        """Retrieve a series (C-GET) in the transfer syntaxes it is stored in."""
        classes = series.sop_classes or _USUAL_CLASSES
        contexts = [build_context(sop_class, syntax) for syntax in _SYNTAXES for sop_class in classes]
        roles = [build_role(sop_class, scp_role=True) for sop_class in classes]
        errors: list[VolsegError] = []

        def receive(event: evt.Event) -> int:
            try:
                request = cast(C_STORE, event.request)
                keep(str(request.AffectedSOPInstanceUID), event.encoded_dataset())
            except VolsegError as error:
                errors.append(error)
                return _FAILED
            return 0

        wanted = {"StudyInstanceUID": series.study_uid, "SeriesInstanceUID": series.series_uid}
        asked = [build_context(_GET), *contexts[:_MOST_CONTEXTS]]
        with associate(self._peers, asked, roles=roles, handlers=[(evt.EVT_C_STORE, receive)]) as association:
            self._need(association, _GET, "C-GET")
            for status, _ in association.send_c_get(_identifier("SERIES", wanted), _GET):
                if errors:
                    association.abort()
                    raise errors[0]
                check(self._peers, status, "C-GET")

    def store(self, instances: Sequence[Instance]) -> Iterator[tuple[Instance, str]]:
        """Store instances (C-STORE) as they are; only uncompressed ones may change to implicit VR."""
        kinds = {(instance.sop_class, instance.transfer_syntax) for instance in instances}
        kinds |= {(name, uid.ImplicitVRLittleEndian) for name, syntax in kinds if _is_plain(syntax)}
        if len(kinds) > _MOST_CONTEXTS:
            raise InputError(
                f"{len(kinds)} combinations of SOP class and transfer syntax are too many to send at once. Send fewer "
                "files at a time."
            )
        with associate(self._peers, [build_context(*kind) for kind in sorted(kinds)]) as association:
            for instance in instances:
                yield instance, self._store(association, instance)

    def _store(self, association: Association, instance: Instance) -> str:
        if not _accepts(association, instance):
            kind, syntax = uid.UID(instance.sop_class).name, uid.UID(instance.transfer_syntax).name
            return f"the server does not accept {kind} in transfer syntax {syntax}"
        try:
            dataset = read_instance(instance.file)
            status = association.send_c_store(dataset)
        except FileFormatError as error:
            return str(error)
        except ValueError:
            return "its data set cannot be encoded"
        except RuntimeError:
            raise InputError(f"{self} ended the connection.") from None
        if "Status" not in status:
            raise InputError(f"{self} ended the connection, or did not answer in time.")
        code = int(status.Status)
        return "" if code == 0 or code >> 12 == 0xB else f"refused with status 0x{code:04X}"

    def _find(self, association: Association, level: str, keys: Mapping[str, str]) -> list[Dataset]:
        self._need(association, _FIND, "C-FIND")
        answers = []
        for status, answer in association.send_c_find(_identifier(level, keys), _FIND):
            check(self._peers, status, "C-FIND")
            if answer is not None:
                answers.append(answer)
        return answers

    def _need(self, association: Association, service: str, name: str) -> None:
        if not offers(association, service):
            raise InputError(
                f"{self} does not offer {name} to {self.calling}. Its administrator may have to allow it for this AE "
                "title; perhaps its DICOMweb service can be used instead."
            )

    @property
    def _peers(self) -> Peers:
        return Peers(self.host, self.port, self.called, self.calling)


def _study_keys(query: SeriesQuery) -> dict[str, str]:
    keys = {"StudyInstanceUID": query.study_uid, "PatientID": query.patient_id}
    return keys | {"PatientName": ""} if query.identity else keys


def _series_keys(query: SeriesQuery, study_uid: str) -> dict[str, str]:
    return {
        "StudyInstanceUID": study_uid,
        "SeriesInstanceUID": query.series_uid,
        "Modality": query.modality,
        "SeriesDescription": "",
        "NumberOfSeriesRelatedInstances": "",
    }


def _identifier(level: str, keys: Mapping[str, str]) -> Dataset:
    identifier = Dataset()
    identifier.SpecificCharacterSet = "ISO_IR 192"
    identifier.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(identifier, keyword, value or None)
    return identifier


def _text(answer: Dataset, keyword: str) -> str:
    value = answer.get(keyword)
    return "" if value is None else str(value).strip("\0 ")


def _accepts(association: Association, instance: Instance) -> bool:
    syntaxes = {
        context.transfer_syntax[0]
        for context in association.accepted_contexts
        if context.abstract_syntax == instance.sop_class
    }
    is_convertible = _is_plain(instance.transfer_syntax) and any(map(_is_plain, syntaxes))
    return instance.transfer_syntax in syntaxes or is_convertible


def _is_plain(syntax: str) -> bool:
    return syntax in (uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian)
