"""Features of 8 × 8 digits from a small classifier with fixed weights, for the Fréchet distance.

The classifier saw the *training* split of ``digits`` alone; ``bench/train_digits_classifier.py`` made it.
"""

from functools import cache
from pathlib import Path

import torch
from torch import nn

from loomfast._defaults import plain_defaults

WEIGHTS = Path(__file__).with_name("digits_classifier.safetensors")
NUM_FEATURES = 32


class DigitsClassifier(nn.Module):
    """Three convolutions, one hidden layer of 32 features, ten classes."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(32, 32, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(32, 64, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Flatten(),
            nn.Linear(256, NUM_FEATURES),
            nn.SiLU(),
        )
        self.head = nn.Linear(NUM_FEATURES, 10)

    def forward(self, images):
        return self.head(self.body(images))


@cache
def _classifier():
    from safetensors.torch import load_file

    with plain_defaults():
        model = DigitsClassifier()
    model.load_state_dict(load_file(WEIGHTS))
    return model.eval().requires_grad_(False)


def _images(images):
    images = torch.as_tensor(images, device="cpu")
    if images.ndim != 4 or images.shape[1:] != (1, 8, 8):
        raise ValueError(f"images must have shape (N, 1, 8, 8), got {tuple(images.shape)}")
    return images.to("cpu", torch.float32)


@torch.no_grad()
def digits_features(images):
    """The classifier's 32 features of each image: (N, 1, 8, 8) in [-1, 1] -> float32 (N, 32), a NumPy array.

    images: NumPy array or tensor. Raises ValueError for another shape.
    """
    return torch.cat([_classifier().body(part) for part in _images(images).split(512)]).numpy()


@torch.no_grad()
def digits_logits(images):
    """Return the ten logits of each image: (N, 1, 8, 8) in [-1, 1] -> float32 (N, 10), a NumPy array."""
    return torch.cat([_classifier()(part) for part in _images(images).split(512)]).numpy()
