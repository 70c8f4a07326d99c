"""Features of images from the Inception network of published Fréchet distances, through torch-fidelity."""

import warnings
from pathlib import Path

import numpy as np
import torch

from loomfast._defaults import plain_defaults
from loomfast.extras import need

NUM_FEATURES = 2048
WEIGHTS = "weights-inception-2015-12-05-6726825d.pth"  # TensorFlow's, as torch-fidelity publishes them
RESIZE = "to 299 x 299 by the network, bilinear as in TensorFlow 1"
_URL = f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{WEIGHTS}"


def inception_weights():
    """Return where torch.hub keeps downloads of the network's weights, a Path; a file may be there or not."""
    return Path(torch.hub.get_dir()) / "checkpoints" / WEIGHTS


def has_inception():
    """Return whether torch-fidelity is installed and the weights are where `inception_weights` says."""
    if not inception_weights().is_file():
        return False
    try:
        need("torch_fidelity", "fid")
    except ImportError:
        return False
    return True


def inception_features(images, weights=None, *, device="cpu", batch_size=64):
    """The 2048 pooled features of each image, with which Fréchet distances are published (FID; Heusel 2017).

    Args:
        images: (N, H, W, 3) uint8, NumPy. The network itself brings them to 299 × 299.
        weights: path of the file of weights; None for `inception_weights`. Nothing is downloaded, and
            nothing but tensors is read of the file.
        device: where the network runs.
        batch_size: images at once.

    Returns:
        (N, 2048) float32, a NumPy array.

    Raises:
        ImportError: without torch-fidelity, which the extra ``fid`` brings.
        FileNotFoundError: where there are no weights; it says how to get them.
        ValueError: for images of another kind, or a file that holds other weights.
    """
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
        raise ValueError(f"images must be uint8 (N, H, W, 3), got {images.dtype} {images.shape}")
    network = _network(inception_weights() if weights is None else Path(weights)).to(device)
    found = []
    for first in range(0, len(images), batch_size):
        part = torch.from_numpy(images[first : first + batch_size].transpose(0, 3, 1, 2).copy())
        with torch.no_grad():
            found.append(network(part.to(device))[0].float().cpu().numpy())
    return np.concatenate(found) if found else np.empty((0, NUM_FEATURES), np.float32)


def _network(path):
    """Return torch-fidelity's network with the weights in a file, which is checked before it is used."""
    module = need("torch_fidelity.feature_extractor_inceptionv3", "fid")
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there: the weights of Inception are at {_URL}")
    try:
        torch.load(path, map_location="cpu", weights_only=True)  # torch-fidelity would run what it unpickles
    except Exception as error:
        raise ValueError(f"{path} holds other things than weights: {str(error).splitlines()[0]}") from error
    with plain_defaults(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch-fidelity's own
        try:
            return module.FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], str(path))
        except RuntimeError as error:
            raise ValueError(f"{path} holds weights of another network: {str(error)[:200]}") from error
