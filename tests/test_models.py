"""The networks: sizes, names, shapes, errors, and the moving average of weights."""

from dataclasses import replace

import pytest
import torch

from loomfast.models import MLPConfig, UNetConfig, build, ema_decay, ema_update
from loomfast.models.unet import AttentionBlock, time_embedding

TABLE_4 = {  # the paper's four networks and their parameter counts
    "cifar10": (UNetConfig(32, 3, 128, 2, (1, 2, 2, 2), (2,), dropout=0.1), 35_746_307),
    "imagenet32": (UNetConfig(32, 3, 128, 3, (1, 2, 2, 2), (2, 4), dropout=0.1), 49_062_787),
    "imagenet64": (UNetConfig(64, 3, 192, 2, (1, 2, 3, 4), (4,), dropout=0.1), 186_591_171),
    "ffhq256-latent": (UNetConfig(32, 4, 256, 2, (1, 2, 3, 4), (2, 4, 8), dropout=0.1), 357_923_588),
}
TINY = UNetConfig(8, 1, 32, 1, (1, 2), (2,), num_head_channels=32, num_groups=8)


def tiny(**changes):
    """A tiny UNet with every weight random, the zero-initialised ones too."""
    torch.manual_seed(0)
    model = build(replace(TINY, **changes))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return model.eval()


@pytest.mark.parametrize("name", TABLE_4)
def test_parameter_count_is_the_papers(name):
    config, count = TABLE_4[name]
    assert sum(p.numel() for p in build(config, "meta").parameters()) == count


def test_names_are_guided_diffusions():
    state = {name: tuple(value.shape) for name, value in build(TINY).state_dict().items()}
    expected = {
        "time_embed.0.weight": (128, 32),
        "time_embed.2.bias": (128,),
        "input_blocks.0.0.weight": (32, 1, 3, 3),
        "input_blocks.1.0.in_layers.0.weight": (32,),
        "input_blocks.1.0.in_layers.2.weight": (32, 32, 3, 3),
        "input_blocks.1.0.emb_layers.1.weight": (32, 128),
        "input_blocks.1.0.out_layers.3.weight": (32, 32, 3, 3),
        "input_blocks.2.0.op.weight": (32, 32, 3, 3),
        "input_blocks.3.0.skip_connection.weight": (64, 32, 1, 1),
        "input_blocks.3.1.qkv.weight": (192, 64, 1),
        "input_blocks.3.1.proj_out.weight": (64, 64, 1),
        "middle_block.1.norm.weight": (64,),
        "output_blocks.1.2.conv.weight": (64, 64, 3, 3),
        "out.0.weight": (32,),
        "out.2.weight": (1, 32, 3, 3),
    }
    assert {name: state.get(name) for name in expected} == expected


def test_output_starts_at_zero_and_has_xs_shape():
    x, t = torch.randn(3, 1, 8, 8), torch.rand(3)
    out = build(TINY)(x, t)
    assert out.shape == x.shape
    assert not out.any()


@pytest.mark.parametrize("changes", [{}, {"use_scale_shift_norm": True}, {"resblock_updown": True}])
def test_every_parameter_matters(changes):
    model = tiny(**changes)
    model(torch.randn(2, 1, 8, 8), torch.rand(2)).square().sum().backward()
    # Rounding alone would leave about 1e-7 of the largest gradient.
    largest = max(p.grad.abs().max() for p in model.parameters())
    assert [name for name, p in model.named_parameters() if p.grad.abs().max() < 1e-5 * largest] == []


def test_items_do_not_see_each_other_and_time_matters():
    model = tiny()
    x, t = torch.randn(4, 1, 8, 8), torch.rand(4)
    together = model(x, t)
    alone = torch.cat([model(x[i : i + 1], t[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    assert (model(x, t) - model(x, 1 - t)).abs().max() > 1e-3


def test_attention_splits_heads_before_q_k_v():
    torch.manual_seed(0)
    block = AttentionBlock(64, UNetConfig(8, 1, 64, 1, (1,), (), num_head_channels=32))
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    x = torch.randn(2, 64, 4, 4)
    tokens = block.norm(x).flatten(2)
    qkv = torch.einsum("oc,bcs->bos", block.qkv.weight[:, :, 0], tokens) + block.qkv.bias[:, None]
    heads = []
    for head in qkv.chunk(2, dim=1):  # a head's 96 channels hold its q, then its k, then its v
        q, k, v = head.chunk(3, dim=1)
        weights = torch.softmax(torch.einsum("bct,bcs->bts", q, k) / 32**0.5, dim=-1)
        heads.append(torch.einsum("bts,bcs->bct", weights, v))
    projected = torch.einsum("oc,bcs->bos", block.proj_out.weight[:, :, 0], torch.cat(heads, dim=1))
    expected = x + (projected + block.proj_out.bias[:, None]).view_as(x)
    torch.testing.assert_close(block(x), expected, rtol=1e-4, atol=1e-5)


def test_time_embedding_is_cosines_then_sines_of_t_itself():
    t = torch.tensor([0.0, 0.25, 1.0])
    frequencies = 10000.0 ** (-torch.arange(4) / 4)
    angles = t[:, None] * frequencies
    expected = torch.cat([torch.cos(angles), torch.sin(angles)], dim=1)
    torch.testing.assert_close(time_embedding(t, 8), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("x", "t", "y", "error", "message"),
    [
        (torch.zeros(2, 3, 8, 8), torch.zeros(2), None, ValueError, r"x must have shape \(B, 1, 8, 8\)"),
        (torch.zeros(2, 1, 8, 4), torch.zeros(2), None, ValueError, "x must have shape"),
        (torch.zeros(2, 1, 8, 8, dtype=torch.int64), torch.zeros(2), None, TypeError, "floating point"),
        (torch.zeros(2, 1, 8, 8), torch.tensor(0.5), None, ValueError, r"t must have shape \(2,\)"),
        (torch.zeros(2, 1, 8, 8), torch.zeros(2), torch.zeros(2).long(), ValueError, "takes no labels"),
    ],
)
def test_unet_names_what_is_wrong_with_its_input(x, t, y, error, message):
    with pytest.raises(error, match=message):
        build(TINY)(x, t, y)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_channels": 36}, "model_channels must be a multiple of num_groups=8"),
        ({"image_size": 9}, "image_size must be divisible by 2"),
        ({"attention_downsample": (16,)}, "attention_downsample must hold downsampling factors"),
        ({"num_head_channels": 48}, "num_head_channels=48 does not divide"),
        ({"num_head_channels": None, "num_heads": 5}, "num_heads=5 does not divide"),
        ({"num_groups": 32}, "one channel a group"),
        ({"num_groups": 0}, "num_groups must be positive"),
        ({"dropout": 1.0}, "dropout must be in"),
        ({"num_classes": 0}, "num_classes must be positive"),
        ({"num_res_blocks": 0}, "num_res_blocks must be positive"),
        ({"channel_mult": ()}, "channel_mult must hold"),
    ],
)
def test_impossible_configurations_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(TINY, **changes)


def test_build_refuses_another_configuration():
    with pytest.raises(TypeError, match="UNetConfig or an MLPConfig, got dict"):
        build({"image_size": 8})


def test_mlp_shapes_and_errors():
    model = build(MLPConfig(dim=2, width=16, depth=2))
    assert model(torch.randn(5, 2), torch.rand(5)).shape == (5, 2)
    with pytest.raises(ValueError, match=r"x must have shape \(B, 2\)"):
        model(torch.randn(5, 3), torch.rand(5))
    with pytest.raises(ValueError, match="t must have shape"):
        model(torch.randn(5, 2), torch.rand(5, 1))
    with pytest.raises(ValueError, match="width must be positive"):
        MLPConfig(width=0)


@pytest.mark.parametrize("config", [replace(TINY, num_classes=3), MLPConfig(num_classes=3)])
def test_labels_condition_the_network_and_minus_one_is_no_label(config):
    torch.manual_seed(0)
    model = build(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    x = torch.randn(1, *((1, 8, 8) if isinstance(config, UNetConfig) else (2,))).repeat_interleave(4, 0)
    out = model(x, torch.full((4,), 0.3), torch.tensor([0, 1, 2, -1])).flatten(1)
    assert torch.cdist(out, out)[~torch.eye(4, dtype=bool)].min() > 1e-3
    with torch.no_grad():
        model.label_emb.weight.zero_()
    unlabelled = model(x, torch.full((4,), 0.3), torch.tensor([0, 1, 2, -1])).flatten(1)
    torch.testing.assert_close(unlabelled, out[3:].expand(4, -1), rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="takes 3 classes, got y=None"):
        model(x, torch.zeros(4))


def test_ema_follows_the_recurrence_in_place():
    params = {"a": torch.full((3,), 2.0, dtype=torch.bfloat16), "b": torch.ones(2, 2)}
    ema = {"a": torch.zeros(3), "b": torch.ones(2, 2)}
    kept = ema["a"]
    for _ in range(2):
        ema_update(ema, params, 0.75)
    assert ema["a"] is kept
    torch.testing.assert_close(ema["a"], torch.full((3,), 2 * (1 - 0.75**2)))
    torch.testing.assert_close(ema["b"], torch.ones(2, 2))


def test_ema_decay_warms_up():
    assert [ema_decay(step, 0.9999) for step in (0, 90)] == [0.1, 0.91]
    assert ema_decay(10**6, 0.9999) == 0.9999
    with pytest.raises(ValueError, match="decay must be in"):
        ema_decay(0, 1.0)


def test_ema_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match=r"only one of them has \['b'\]"):
        ema_update({"a": torch.zeros(1)}, {"a": torch.zeros(1), "b": torch.zeros(1)}, 0.5)
    with pytest.raises(TypeError, match="must be float32"):
        ema_update({"a": torch.zeros(1).double()}, {"a": torch.zeros(1)}, 0.5)
    with pytest.raises(ValueError, match="has shape"):
        ema_update({"a": torch.zeros(1)}, {"a": torch.zeros(2)}, 0.5)
    with pytest.raises(ValueError, match="decay must be in"):
        ema_update({"a": torch.zeros(1)}, {"a": torch.zeros(1)}, 1.5)


def gradients(model, x, t):
    model.zero_grad()
    torch.manual_seed(1)  # dropout
    model(x, t).square().sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters()}


def test_activation_checkpointing_changes_no_gradient():
    x, t = torch.randn(2, 1, 8, 8), torch.rand(2)
    plain, lean = (tiny(dropout=0.3, activation_checkpointing=on).train() for on in (False, True))
    expected, stored = gradients(plain, x, t), gradients(lean, x, t)
    assert all(torch.equal(stored[name], expected[name]) for name in expected)

    def kept_by(model):
        kept = []
        with torch.autograd.graph.saved_tensors_hooks(lambda a: kept.append(a.numel()) or a, lambda a: a):
            model(x, t)
        return sum(kept)

    assert kept_by(lean) < 0.5 * kept_by(plain)


def test_channels_last_and_autocast_compute_the_same_field():
    model = tiny()
    x, t = torch.randn(4, 1, 8, 8), torch.rand(4)
    expected = model(x, t)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = model(x, t)
    assert half.dtype == torch.bfloat16
    half, expected = half.detach(), expected.detach()
    # bfloat16 keeps 8 bits; errors of single layers add up to about a percent of the output's size.
    assert (half.float() - expected).square().mean() < (0.03 * expected.std()) ** 2
    model = model.to(memory_format=torch.channels_last)
    out = model(x.to(memory_format=torch.channels_last), t)
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


def test_traces_whole_with_labels_checkpointing_and_gradients():
    model = tiny(num_classes=3, activation_checkpointing=True).train()
    x, t, y = torch.randn(2, 1, 8, 8), torch.rand(2), torch.tensor([2, -1])
    # fullgraph raises at any graph break; this backend runs what was traced without compiling it.
    traced = torch.compile(model, fullgraph=True, backend="aot_eager")(x, t, y)
    expected = model(x, t, y)
    torch.testing.assert_close(traced, expected, rtol=1e-4, atol=1e-5 * float(expected.detach().abs().max()))
    found, wanted = (torch.autograd.grad(out.sum(), model.out[2].weight)[0] for out in (traced, expected))
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4 * float(wanted.abs().max()))


@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method:DeprecationWarning")  # torch's own compiler
def test_compiles():
    """The smallest network with every kind of layer but resampling: compiling costs half a minute already."""
    model = tiny(
        model_channels=16, num_head_channels=16, num_groups=4, channel_mult=(1,), attention_downsample=()
    )
    x, t = torch.randn(2, 1, 8, 8), torch.rand(2)
    with torch.no_grad():
        out, expected = torch.compile(model, fullgraph=True)(x, t), model(x, t)
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))
