"""How much memory a training run will take, before it takes any."""

from dataclasses import replace

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from loomfast import models
from loomfast._defaults import plain_defaults
from loomfast.coupling.build import COUPLINGS
from loomfast.flow import bridge_loss, flow_matching_loss
from loomfast.models import UNetConfig
from loomfast.models.conditions import condition_shape


def estimate_memory(config, *, num_items=None, processes=1):
    """Bytes of a training run by what they are for, a dict: per process, an estimate.

    ``weights``, ``gradients``, ``optimizer`` (Adam's two moments) and ``moving average`` are float32 numbers,
    one (two for Adam, three for the averages where there are snapshots) a parameter; ``teacher`` is the
    network that the objective lmd distils. ``activations`` are what one forward pass of a process's part of a
    batch keeps for the backward pass (`count_activations`). ``coupling cache`` is an int32 id and a float64
    price a noise, on the host, and is None where ``num_items`` is. Workspace, temporaries, fragments and the
    data are not counted, nor what derivatives in time keep where a flow map is trained.

    Args:
        config: a TrainConfig.
        num_items: items of the dataset, where they are known.
        processes: processes the batch is shared by.
    """
    count = sum(p.numel() for p in models.build(config.model, "meta").parameters())
    part = max(1, config.batch_size // (processes * config.accumulate))
    cache = None
    if num_items is not None:
        num_coupled = num_items * (2 if config.flips else 1)
        cache = COUPLINGS[config.coupling.method].cache_bytes(config.coupling, num_coupled)
    return {
        "weights": 4 * count,
        "gradients": 4 * count,
        "optimizer": 8 * count,
        "moving average": 4 * count * (3 if config.snapshot_every else 1),
        **({"teacher": 4 * count} if config.objective == "lmd" else {}),
        "activations": count_activations(config.model, part, config.precision),
        "coupling cache": cache,
    }


def count_activations(model_config, batch, precision="float32"):
    """Bytes that one forward pass and its loss keep for the backward pass, parameters left out.

    The network runs on tensors without storage (torch's FakeTensorMode) and the distinct storages that
    autograd saves are added up. With activation checkpointing a block keeps its input only, and the block
    that keeps the most is counted whole, since the backward pass computes one block at a time again.
    """
    lean = isinstance(model_config, UNetConfig) and model_config.activation_checkpointing
    if lean:
        model_config = replace(model_config, activation_checkpointing=False)
    model = models.build(model_config, "meta")
    saved, inputs, block = {}, {}, [None]

    def save(tensor):
        storage = tensor.untyped_storage()
        # The storage is kept as well: a freed one's address could come again.
        saved.setdefault(storage._cdata, (storage, block[0]))
        return tensor

    def enter(module, arguments):
        block[0] = module
        storage = arguments[0].untyped_storage()
        inputs[storage._cdata] = storage

    def leave(*_):
        block[0] = None

    for module in _blocks(model) if lean else ():
        module.register_forward_pre_hook(enter)
        module.register_forward_hook(leave)
    parameters = _forward(model, model_config, batch, precision, save)
    kept, of_block = dict(inputs), {}
    for address, (storage, owner) in saved.items():
        if owner is None:
            kept[address] = storage
        elif address not in inputs and address not in parameters:
            of_block[owner] = of_block.get(owner, 0) + storage.nbytes()
    lasting = sum(storage.nbytes() for address, storage in kept.items() if address not in parameters)
    return lasting + max(of_block.values(), default=0)


def _blocks(model):
    return [*model.input_blocks, model.middle_block, *model.output_blocks]


@plain_defaults()
def _forward(model, config, batch, precision, save):
    """Compute one loss on tensors without storage; return the storages of the parameters.

    What autograd saves is passed to ``save``.
    """
    half = precision == "bfloat16"
    with FakeTensorMode():
        parameters = {
            name: torch.empty_strided(p.shape, p.stride(), requires_grad=True)
            for name, p in model.named_parameters()
        }
        x, t = torch.empty(batch, *models.item_shape(config)), torch.empty(batch)
        told = condition_shape(config)
        y = None if told is None else torch.zeros(batch, *told, dtype=torch.float32 if told else torch.int64)

        def network(*arguments, **options):
            return torch.func.functional_call(model, parameters, arguments, options)

        with (
            torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor),
            torch.autocast("cpu", dtype=torch.bfloat16, enabled=half),
        ):
            z = torch.empty_like(x)
            if config.score_head:
                bridge_loss(network, x, z, t, z, y=y)
            else:
                flow_matching_loss(network, x, z, t, y=y)
        return {p.untyped_storage()._cdata for p in parameters.values()}
