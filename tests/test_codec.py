"""Images to latents and back: by a stand-in for diffusers, and by diffusers itself where it is installed."""

import sys
from importlib.util import find_spec
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from untrained import images, untrained_run

from loomfast.cli import main
from loomfast.sampling.codec import autoencoder_kl

SCALE = 0.18215


class StandIn(torch.nn.Module):
    """The part of diffusers' AutoencoderKL that is used: a latent is the mean of 2x2 blocks, and a zero."""

    def __init__(self):
        super().__init__()
        self.config = SimpleNamespace(scaling_factor=SCALE, latent_channels=4)
        self.device = torch.device("cpu")

    @classmethod
    def from_pretrained(cls, name, **options):
        cls.loads.append((name, options))
        if name == "absent":
            raise OSError("absent is not a local folder\nand is not a valid model identifier")
        return cls()

    def encode(self, x):
        assert len(x) == 1  # on the CPU, whose bits may depend on how many there are
        mean = torch.nn.functional.pad(torch.nn.functional.avg_pool2d(x, 2), (0, 0, 0, 0, 0, 1))
        return SimpleNamespace(latent_dist=SimpleNamespace(mean=mean))

    def decode(self, z):
        assert len(z) == 1
        return SimpleNamespace(sample=torch.nn.functional.interpolate(z[:, :3], scale_factor=2))


@pytest.fixture
def stand_in(monkeypatch):
    module = ModuleType("diffusers")
    module.AutoencoderKL = StandIn
    monkeypatch.setattr(StandIn, "loads", [], raising=False)
    monkeypatch.setitem(sys.modules, "diffusers", module)


@pytest.mark.usefixtures("stand_in")
def test_latents_are_scaled_and_images_come_back(tmp_path):
    codec = autoencoder_kl(tmp_path)
    ((name, options),) = StandIn.loads
    assert name == str(tmp_path)
    assert options["use_safetensors"]
    assert options["local_files_only"]
    blocks = torch.rand(3, 3, 4, 4) * 2 - 1
    pictures = torch.nn.functional.interpolate(blocks, scale_factor=2)
    latents = codec.encode(pictures.numpy())
    torch.testing.assert_close(latents[:, :3], SCALE * blocks)
    assert not latents[:, 3].any()
    torch.testing.assert_close(codec.decode(latents), pictures)
    torch.testing.assert_close(autoencoder_kl("a/name", scale=2.0).encode(pictures)[:, :3], 2 * blocks)


@pytest.mark.usefixtures("stand_in")
def test_what_a_codec_does_not_take():
    codec = autoencoder_kl("a/name")
    with pytest.raises(ValueError, match=r"latents must have shape \(N, 4, h, w\), got \(2, 3, 4, 4\)"):
        codec.decode(torch.zeros(2, 3, 4, 4))
    with pytest.raises(ValueError, match=r"images must have shape \(N, 3, H, W\), got \(3, 4, 4\)"):
        codec.encode(torch.zeros(3, 4, 4))
    with pytest.raises(ValueError, match="no AutoencoderKL can be read from 'absent': absent is not a local"):
        autoencoder_kl("absent")
    for scale in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="scale must be positive"):
            autoencoder_kl("a/name", scale=scale)


def test_the_extra_is_named_where_diffusers_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(ImportError, match=r"pip install 'loomfast\[latent\]'"):
        autoencoder_kl("a/name")


@pytest.mark.usefixtures("stand_in")
def test_samples_of_a_latent_run_are_decoded(tmp_path, capsys):
    run = untrained_run(tmp_path / "run", images(4))
    words = ["sample", str(run), "--device", "cpu", "--num", "3", "--nfe", "4", "--trajectory", "--out"]
    for out, codec in (
        ("latents.npz", []),
        ("images.npz", ["--codec", "a/name"]),
        ("pictures/", ["--codec", "a/name"]),
    ):
        assert main([*words, f"{tmp_path}/{out}", *codec]) == 0
    latents, decoded = (np.load(tmp_path / f"{name}.npz") for name in ("latents", "images"))
    expected = latents["trajectory"][:, :, :3].repeat(2, axis=3).repeat(2, axis=4) / np.float32(SCALE)
    np.testing.assert_allclose(decoded["trajectory"], expected, rtol=1e-6)
    np.testing.assert_array_equal(decoded["samples"], decoded["trajectory"][-1])
    assert len(list((tmp_path / "pictures").iterdir())) == 3
    run = untrained_run(tmp_path / "rgb", images(3))
    assert main(["sample", str(run), "--codec", "a/name", "--out", f"{tmp_path}/s.png"]) == 2
    assert "--codec a/name decodes 4 channels, the samples have 3" in capsys.readouterr().err


@pytest.mark.skipif(not find_spec("diffusers"), reason="diffusers, the extra [latent], is not installed")
@pytest.mark.filterwarnings("ignore")  # of diffusers and what it imports
def test_the_autoencoder_of_diffusers_itself(tmp_path):
    from diffusers import AutoencoderKL

    torch.manual_seed(0)
    network = AutoencoderKL(
        block_out_channels=(8, 8),
        norm_num_groups=4,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
    ).eval()
    network.save_pretrained(tmp_path / "autoencoder")
    codec = autoencoder_kl(tmp_path / "autoencoder")
    pictures = torch.rand(2, 3, 16, 16) * 2 - 1
    with torch.no_grad():
        mean = network.encode(pictures).latent_dist.mean
        expected = network.decode(mean).sample
    latents = codec.encode(pictures)
    torch.testing.assert_close(latents, SCALE * mean, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(codec.decode(latents), expected, rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="no AutoencoderKL can be read from"):
        autoencoder_kl(tmp_path)
