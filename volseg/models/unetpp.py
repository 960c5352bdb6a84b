"""U-Net++ in 2D and 3D, written from the papers.

Zhou, Rahman Siddiquee, Tajbakhsh, Liang: "UNet++: A Nested U-Net Architecture for Medical Image Segmentation"
(DLMIA 2018) and "UNet++: Redesigning Skip Connections to Exploit Multiscale Features in Image Segmentation"
(IEEE TMI 39(6), 2020).
"""

from typing import Literal

from volseg.models import MODELS
from volseg.models.encoder_decoder import EncoderDecoder, chosen_head
from volseg.models.nested import NestedNet, nested_net
from volseg.models.places import nested_places


@MODELS.add
class UNetPlusPlus(EncoderDecoder):
    """Parameters of a U-Net++: dense skips X[i,0], ..., X[i,j-1] into every node X[i,j] (2020, eq. 1).

    Head L needs only the nodes with i + j <= L, so a network pruned at L never builds the others (2020, "model pruning").

    With `dimensions=2, widths=(32, 64, 128, 256, 512), norm="none"`, three input channels and one output, the network
    has the structure of the 2018 paper (9.04 M parameters among its results). What differs from it: normalisation is
    instance norm by default, the activation is a leaky ReLU, and heads give logits (no sigmoid inside).
    """

    name: Literal["unetpp"] = "unetpp"

    def build(self, in_channels: int, label_count: int, *, head: int | None = None) -> NestedNet:
        """The module, pruned to the nodes that head L = `head` needs (default: the last).

        Raises:
            ConfigError: no such head, or the encoder does not exist in this form.
        """
        return nested_net(self, in_channels, label_count, nested_places(chosen_head(self, head)))
