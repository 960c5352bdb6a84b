"""A PACS of our own: Orthanc on free loopback ports with a storage folder that is thrown away."""

import json
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from volseg.io.pacs import DicomWeb, Dimse

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
TITLE = "TESTPACS"
US = "VOLSEG"
READY_WITHIN_S = 20


@dataclass(frozen=True)
class Orthanc:
    """A running server."""

    url: str
    host: str
    dicom_port: int

    @property
    def web(self) -> DicomWeb:
        return DicomWeb(self.url)

    @property
    def node(self) -> Dimse:
        return Dimse(self.host, self.dicom_port, called=TITLE, calling=US)


@pytest.fixture(scope="session")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    program = shutil.which("Orthanc", path="/usr/sbin:/usr/local/sbin:/usr/bin")
    if program is None or not PLUGIN.is_file():
        pytest.skip(
            "no Orthanc with DICOMweb (apt-get install --no-install-recommends orthanc orthanc-dicomweb)"
        )
    folder = tmp_path_factory.mktemp("orthanc")
    http_port, dicom_port = free_ports()
    configuration = folder / "orthanc.json"
    configuration.write_text(json.dumps(settings(folder / "storage", http_port, dicom_port)))
    log = folder / "log.txt"
    with log.open("wb") as output:
        process = subprocess.Popen([program, str(configuration)], stdout=output, stderr=subprocess.STDOUT)
        try:
            wait_until_ready(process, http_port, log)
            yield Orthanc(f"http://127.0.0.1:{http_port}/dicom-web", "127.0.0.1", dicom_port)
        finally:
            process.kill()  # nothing it holds is kept, and an orderly end takes seconds
            process.wait()


def settings(storage: Path, http_port: int, dicom_port: int) -> dict[str, object]:
    return {
        "Name": "volseg tests",
        "StorageDirectory": str(storage),
        "IndexDirectory": str(storage),
        "Plugins": [str(PLUGIN)],
        "HttpPort": http_port,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomPort": dicom_port,
        "DicomAet": TITLE,
        "DicomCheckCalledAet": True,
        "DicomAlwaysAllowGet": False,
        "DicomAlwaysAllowFind": False,
        "DicomModalities": {
            "us": {"AET": US, "Host": "127.0.0.1", "Port": 1, "AllowGet": True, "AllowFind": True}
        },
        "DicomWeb": {"Enable": True},
        "SyncStorageArea": False,
    }


def free_ports() -> tuple[int, int]:
    with socket.socket() as first, socket.socket() as second:
        first.bind(("127.0.0.1", 0))
        second.bind(("127.0.0.1", 0))
        return first.getsockname()[1], second.getsockname()[1]


def wait_until_ready(process: subprocess.Popen[bytes], http_port: int, log: Path) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with opener.open(f"http://127.0.0.1:{http_port}/dicom-web/series?limit=1", timeout=2):
                return
        except OSError:
            time.sleep(0.1)
    process.kill()
    pytest.fail(f"Orthanc did not start:\n{log.read_text(errors='replace')[-2000:]}")
