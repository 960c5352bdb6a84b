"""U-Net in 2D and 3D.

Ronneberger, Fischer, Brox: "U-Net: Convolutional Networks for Biomedical Image Segmentation" (MICCAI 2015);
Cicek et al.: "3D U-Net: Learning Dense Volumetric Segmentation from Sparse Annotation" (MICCAI 2016).
"""

from typing import Literal

from volseg.errors import ConfigError
from volseg.models import MODELS
from volseg.models.encoder_decoder import EncoderDecoder
from volseg.models.nested import NestedNet, nested_net
from volseg.models.places import single_places


@MODELS.add
class UNet(EncoderDecoder):
    """Parameters of a U-Net: one skip X[i,0] into each decoder node X[i,D-i], D the depth.

    With `dimensions=2, widths=(64, 128, 256, 512, 1024), norm="none", negative_slope=0, padding="valid",
    deep_supervision=False`, one input channel and two labels it is the network of 2015 (figure 1): 31,030,658 parameters,
    572 x 572 pixels in, 388 x 388 out. What differs: no dropout at the end of the contracting path. By default
    convolutions are padded, as is usual since.

    With deep supervision every decoder level has a head, as in nnU-Net (Isensee et al. 2021); their logits are interpolated
    to the extents of the finest.
    """

    name: Literal["unet"] = "unet"

    def build(self, in_channels: int, label_count: int, *, head: int | None = None) -> NestedNet:
        """The module.

        Raises:
            ConfigError: a head other than the last, without which there is no path back to the finest level; or the encoder
                does not exist in this form.
        """
        if head not in (None, self.depth):
            raise ConfigError(
                f"a U-Net has no path to the finest level but through its last head {self.depth}; found head {head}. "
                "Use unetpp for a network that can be pruned."
            )
        return nested_net(self, in_channels, label_count, single_places(self.depth))
