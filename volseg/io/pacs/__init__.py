"""A PACS as a source of series and a place for results: over DICOMweb, or over the older DIMSE network protocol.

    pacs = DicomWeb("https://pacs.example/dicom-web")         or  Dimse.parse("pacs.example:104", called="PACS")
    fetch_series(pacs, "1.2.3", Path("series"))
    store_files(pacs, [Path("liver_seg.dcm")])

What is sent and received goes through as it is stored, compressed or not; nothing is decoded on the way.
"""

from volseg.io.pacs.dicomweb import DicomWeb
from volseg.io.pacs.dimse import Dimse
from volseg.io.pacs.server import FoundSeries, SeriesQuery, Server
from volseg.io.pacs.transfer import StoreReport, fetch_series, find_series, store_files

__all__ = [
    "DicomWeb",
    "Dimse",
    "FoundSeries",
    "SeriesQuery",
    "Server",
    "StoreReport",
    "fetch_series",
    "find_series",
    "store_files",
]
