"""What is refused before an export; that exports equal torch is in test_contract.py."""

import pytest

from volseg.errors import ConfigError, InputError
from volseg.models import export
from volseg.models.unetpp import UNetPlusPlus


@pytest.fixture
def network():
    return UNetPlusPlus(dimensions=2, widths=(8, 8)).build(1, 2)


def test_missing_packages_are_named_with_the_extra(network, monkeypatch):
    monkeypatch.setattr(export, "find_spec", lambda name: None if name == "onnxscript" else object())
    with pytest.raises(
        ConfigError, match=r"needs onnxscript, not installed; run: pip install 'volseg\[onnx\]'"
    ):
        export.to_onnx(network, (16, 24), in_channels=1)


def test_extents_that_do_not_suit_are_refused(network):
    with pytest.raises(InputError, match=r"pad the input to \(16, 24\)"):
        export.to_onnx(network, (15, 24), in_channels=1)
