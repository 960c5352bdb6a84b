"""The scan as it comes."""

from typing import Literal

from volseg.locate import LOCATE, LocateStep, Location
from volseg.locate.template import Template
from volseg.volume import Volume


@LOCATE.add
class Crop(LocateStep):
    """No search: the scan is the region, as it is for a model of crops or of whole scans."""

    name: Literal["crop"] = "crop"

    def __call__(self, volume: Volume, template: Template | None) -> Location:
        """One region: everything."""
        del volume, template
        return Location()
