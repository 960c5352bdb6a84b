"""An open connection to a DICOM node: negotiated, verified by C-ECHO, released at the end."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom import AE, build_context, evt
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext

from volseg.errors import InputError

_VERIFICATION = "1.2.840.10008.1.1"
_CONNECT_S, _ASSOCIATE_S, _ANSWER_S, _END_S = 10, 30, 120, 2
_PDU_BYTES = 131072
_PENDING = (0xFF00, 0xFF01)


@dataclass(frozen=True, slots=True)
class Peers:
    """Who calls whom."""

    host: str
    port: int
    called: str
    """AE title of the node."""
    calling: str
    """Our AE title."""

    def __str__(self) -> str:
        """The node's address."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@contextmanager
def associate(
    peers: Peers,
    contexts: Sequence[PresentationContext],
    *,
    roles: Sequence[Any] = (),
    handlers: Sequence[Any] = (),
) -> Iterator[Association]:
    """An association with these presentation contexts, at most 127, that has answered a C-ECHO.

    Raises:
        InputError: no connection, refused, or no answer.
    """
    node = AE(ae_title=peers.calling)
    node.connection_timeout, node.acse_timeout = _CONNECT_S, _ASSOCIATE_S
    node.dimse_timeout = node.network_timeout = _ANSWER_S
    opened: list[evt.Event] = []
    association = node.associate(
        peers.host,
        peers.port,
        contexts=[build_context(_VERIFICATION), *contexts],
        ae_title=peers.called,
        max_pdu=_PDU_BYTES,
        ext_neg=list(roles),
        evt_handlers=[(evt.EVT_CONN_OPEN, opened.append), *handlers],
    )
    try:
        if not association.is_established:
            raise InputError(_refusal(peers, association, is_connected=bool(opened)))
        if offers(association, _VERIFICATION):
            check(peers, association.send_c_echo(), "C-ECHO")
        yield association
    finally:
        _end(association)


def offers(association: Association, abstract_syntax: str) -> bool:
    """Whether the node accepted a service or SOP class."""
    return any(context.abstract_syntax == abstract_syntax for context in association.accepted_contexts)


def check(peers: Peers, status: Dataset, service: str) -> None:
    """Raise InputError unless the node answered with success or more to come (PS3.7 annex C)."""
    if "Status" not in status:
        raise InputError(f"{peers} ended the connection during {service}, or did not answer in time.")
    code = int(status.Status)
    if code == 0 or code in _PENDING:
        return
    failed = status.get("NumberOfFailedSuboperations")
    count = f", {failed} instances failed" if failed else ""
    raise InputError(f"{peers} answered {service} with status 0x{code:04X}{count}.")


def _end(association: Association) -> None:
    """Release, and wait until nothing goes on behind our back; after bad answers a socket would stay open."""
    if association.is_established:
        association.release()
    if association.dul.is_alive():
        association.dul.join(_END_S)
    if association.dul.socket is not None:
        association.dul.socket.close()


def _refusal(peers: Peers, association: Association, *, is_connected: bool) -> str:
    if not is_connected:
        return f"{peers} cannot be reached. Check host, port and network."
    if association.is_rejected:
        reason = getattr(association.acceptor.primitive, "reason_str", "no reason given")
        return (
            f"{peers} refused the association: {reason}. Check its AE title ({peers.called!r} was called) and "
            f"whether it knows ours ({peers.calling!r})."
        )
    return f"{peers} takes connections but does not answer as a DICOM node. Check the port."
