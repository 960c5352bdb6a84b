"""One step of pre-training: patches hidden in part, through the network, the sum of the tasks' losses, the weights moved."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from volseg.pretrain.contrast import contrastive_loss
from volseg.pretrain.masking import MaskedBatch, hide_cubes, mask_batch, reconstruction_error
from volseg.pretrain.network import PretrainNet, Said, build_network, total_stride
from volseg.pretrain.settings import PretrainConfig
from volseg.train.optimise import make_optimizer, update_average
from volseg.train.precision import choose_precision


@dataclass(frozen=True)
class Losses:
    """Of one step; 0 for a task that is off."""

    total: float
    masked: float
    contrastive: float


class Learner:
    """The network, the optimizer's state and the averaged weights.

    Args:
        config: the settings.
        channels: C of the images.
        device: where to compute.
    """

    def __init__(self, config: PretrainConfig, channels: int, device: torch.device) -> None:
        self.config, self.device = config, device
        self.in_channels = channels * (2 * config.slices_around + 1)
        self.is_2d = config.architecture.dimensions == 2
        self.module = self.build()
        self.cube = _cube(config, self.module)
        self.precision, self.precision_reason = choose_precision(
            config.precision, device, config.patch_voxels, config.architecture, in_channels=self.in_channels
        )
        if self.precision == "fp16":
            self.precision, self.precision_reason = "fp32", "the GPU has no bf16"
        self.optimizer = make_optimizer(self.module, config.optimizer)
        self.average = {name: value.clone() for name, value in self.module.state_dict().items()}

    def build(self) -> PretrainNet:
        """The untrained network on its device."""
        config = self.config
        width = config.contrastive.width if config.contrastive.weight else None
        network = build_network(
            config.architecture,
            self.in_channels,
            masked=config.masked.weight > 0,
            contrastive_width=width,
        )
        return network.to(self.device)

    def averaged_module(self) -> PretrainNet:
        """The network with the averaged weights, in evaluation mode."""
        network = self.build()
        network.load_state_dict(self.average)
        return network.eval()

    def hidden(self, images: Tensor, seed: Sequence[int]) -> MaskedBatch:
        """Patches [B, C, ...] on the device with cubes hidden that depend on the seed alone."""
        mixed = 0
        for part in seed:
            mixed = (mixed * 1_000_003 + part + 1) % 2**63
        generator = torch.Generator().manual_seed(mixed)
        hidden = hide_cubes(
            images.shape[2:],
            self.cube,
            self.config.masked.hidden,
            patches=len(images),
            generator=generator,
        )
        return mask_batch(images, hidden.to(images.device))

    def on_device(self, images: Tensor) -> Tensor:
        """Patches as the network takes them: [B, C, I, J, K] without K in 2D."""
        images = images.to(self.device, non_blocking=True)
        return images.squeeze(-1) if self.is_2d else images

    def say(self, network: nn.Module, images: Tensor) -> Said:
        """What a network says of patches [B, C, ...], in the precision of the training."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            return network(images)

    def gradients(self, images: Tensor, step: int) -> Losses:
        """Compute the gradients of a batch [B, C, I, J, K]; the losses may be no numbers, then the gradients are none either."""
        config = self.config
        self.module.train()
        self.optimizer.zero_grad(set_to_none=True)
        images = self.on_device(images)
        masked = self.hidden(images, (config.seed, step)) if config.masked.weight else None
        said = self.say(self.module, images if masked is None else masked.image)
        zero = images.new_zeros(())
        masked_loss = contrast = zero
        if masked is not None:
            masked_loss = reconstruction_error(cast(Tensor, said.reconstruction), masked, config.masked.error)
        if said.descriptions is not None:
            contrast = contrastive_loss(said.descriptions, config.contrastive.temperature)
        total = config.masked.weight * masked_loss + config.contrastive.weight * contrast
        losses = Losses(total.item(), masked_loss.item(), contrast.item())
        total.backward()
        return losses

    def apply(self, step: int, rate: float) -> bool:
        """Clip the gradients and move the weights, then their average; False, and nothing moved, if they are not finite."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        norm = nn.utils.clip_grad_norm_(self.module.parameters(), self.config.optimizer.clip_norm)
        if not torch.isfinite(norm):
            return False
        self.optimizer.step()
        update_average(self.average, self.module, step, self.config.optimizer.ema_decay)
        return True

    def state(self) -> dict[str, dict[str, Any]]:
        """What a checkpoint keeps."""
        return {
            "module": self.module.state_dict(),
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
        }

    def load(self, state: dict[str, dict[str, Any]]) -> None:
        """Take up the state of a checkpoint."""
        self.module.load_state_dict(state["module"])
        for name, value in state["average"].items():
            self.average[name].copy_(value)
        self.optimizer.load_state_dict(state["optimizer"])


def _cube(config: PretrainConfig, network: PretrainNet) -> tuple[int, ...]:
    """Extents of a hidden cube, as many as the network has axes."""
    given = config.masked.cube_voxels
    return total_stride(network.encoder) if given is None else given[: config.architecture.dimensions]
