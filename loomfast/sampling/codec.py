"""Between images and the latents a flow model is trained on (LOOM-CFM, Section 4.2: FFHQ-256)."""

from pathlib import Path
from typing import Protocol

import torch

from loomfast._defaults import plain_defaults
from loomfast.extras import need


class Codec(Protocol):
    """What turns images into the latents of a model, and its samples back into images."""

    def encode(self, images):
        """Return the latents (N, c, h, w) float32, on the CPU, of float images (N, 3, H, W) in [-1, 1]."""

    def decode(self, latents):
        """Return the images (N, 3, H, W) float32, on the CPU, of latents (N, c, h, w), floating point."""


def autoencoder_kl(path_or_name, *, scale=None, device="cpu", batch_size=16):
    """The Codec of a diffusers AutoencoderKL, such as stabilityai/sd-vae-ft-mse.

    Args:
        path_or_name: a folder that its ``save_pretrained`` wrote, or a name on the Hugging Face hub. Only
            safetensors files are read.
        scale: latents are the autoencoder's times this. None takes its own ``scaling_factor``, which is
            0.18215 for Stable Diffusion's.
        device: where it computes.
        batch_size: images at once on a GPU. On the CPU it is one, so that bits do not depend on how many.

    Raises:
        ImportError: without diffusers; it names the extra.
        ValueError: for a scale that is not positive, or where no autoencoder can be read.
    """
    if scale is not None and not 0 < scale < float("inf"):
        raise ValueError(f"scale must be positive, got {scale}")
    kind = need("diffusers", "latent").AutoencoderKL
    path_or_name = str(path_or_name)
    here = Path(path_or_name).is_dir()
    try:
        # Loading by parts would save memory, and print about a package it wants for that.
        options = {"use_safetensors": True, "local_files_only": here, "low_cpu_mem_usage": False}
        with plain_defaults():
            network = kind.from_pretrained(path_or_name, **options)
    except Exception as missing:  # diffusers passes on whatever its readers raise at a damaged file
        reason = " ".join(str(missing).split())
        raise ValueError(f"no AutoencoderKL can be read from {path_or_name!r}: {reason}") from None
    scale = network.config.scaling_factor if scale is None else scale
    return AutoencoderKL(network.eval().to(device), scale, batch_size)


class AutoencoderKL:
    """The Codec that `autoencoder_kl` returns; ``channels`` is the number of channels of a latent."""

    def __init__(self, network, scale, batch_size):
        self._network, self._scale = network, scale
        self._batch_size = 1 if network.device.type == "cpu" else batch_size
        self.channels = network.config.latent_channels

    def encode(self, images):
        """Return the scaled means of images' posteriors, as `Codec.encode`; ValueError for another shape."""
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"images must have shape (N, 3, H, W), got {tuple(images.shape)}")
        return self._in_batches(lambda x: self._scale * self._network.encode(x).latent_dist.mean, images)

    def decode(self, latents):
        """Return the images of latents, as `Codec.decode`. Raises ValueError for another shape."""
        if latents.ndim != 4 or latents.shape[1] != self.channels:
            raise ValueError(
                f"latents must have shape (N, {self.channels}, h, w), got {tuple(latents.shape)}"
            )
        return self._in_batches(lambda z: self._network.decode(z / self._scale).sample, latents)

    @torch.no_grad()
    def _in_batches(self, function, items):
        batches = torch.as_tensor(items, dtype=torch.float32, device="cpu").split(self._batch_size)
        return torch.cat([function(batch.to(self._network.device)).float().cpu() for batch in batches])
