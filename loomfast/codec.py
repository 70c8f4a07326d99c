"""The public names of `loomfast.sampling.codec`, where README looks for them."""

from loomfast.sampling.codec import AutoencoderKL, Codec, autoencoder_kl

__all__ = ["AutoencoderKL", "Codec", "autoencoder_kl"]
