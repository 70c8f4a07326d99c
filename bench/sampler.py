"""What sampling costs beside the network: all of ``generate`` against the bare calls of the network.

    python bench/sampler.py [--json FILE] [--rounds N] [--nfe N] [--device DEVICE] [--compile]

The bare calls are the network on one batch of noise, as often as the solver calls it. A claim of a few per
cent drowns in the noise of a machine that is not quiet, so the sampler is also timed with a network that does
nothing: that is all of its overhead, given as a share of the bare calls and of calls of 50 ms. Times are
printed only if sampling gives what the same steps by hand do.
"""

import argparse

import torch
from timing import interleaved, report

from loomfast import noise_from_ids
from loomfast.models import UNetConfig, build
from loomfast.sampling.generate import CPU_BLOCK, generate
from loomfast.sampling.ode import FIXED

SHAPE = (3, 16, 16)
UNET = UNetConfig(16, 3, 32, 1, (1, 2, 2), (4,), num_groups=8, num_head_channels=32)
CALL = 0.05  # seconds of the calls that the goal, 2 per cent of overhead, is stated for


def network(device):
    torch.manual_seed(0)
    model = build(UNET).eval()
    torch.nn.init.normal_(model.out[2].weight, std=0.01)  # zero at first: a wrong step would not show
    return model.to(device)


@torch.no_grad()
def check(model, options):
    """The end of four Euler steps by hand."""
    device = next(model.parameters()).device
    x = noise_from_ids(torch.arange(CPU_BLOCK), SHAPE, seed=0, domain=2).to(device)
    for k in range(4):
        x = x + model(x, torch.full((CPU_BLOCK,), k / 4, device=device)) / 4
    found = generate(model, CPU_BLOCK, SHAPE, solver="euler", nfe=4, **options)
    error = float((found - x.cpu()).abs().max())
    if not error < 1e-4:
        raise SystemExit(f"sampling is wrong by {error}")


def overhead(model, solver, nfe, options, rounds):
    """The row of one solver: the sampler and its calls, and the sampler without a network."""
    device = next(model.parameters()).device
    noise = torch.randn(CPU_BLOCK, *SHAPE, device=device)
    times = torch.rand(nfe, device=device)

    @torch.no_grad()
    def bare():
        for t in times:
            model(noise, t.expand(CPU_BLOCK))
        if device.type == "cuda":
            torch.cuda.synchronize()

    def sampler():
        generate(model, CPU_BLOCK, SHAPE, solver=solver, nfe=nfe, **options)

    def nothing():
        generate(lambda x, t: x, CPU_BLOCK, SHAPE, solver=solver, nfe=nfe, **options)

    contestants = {"bare": bare, "sampler": sampler, "nothing": nothing}
    medians = interleaved(contestants, rounds)
    bare_seconds = medians["bare"]
    return {
        "solver": solver,
        "nfe": nfe,
        "call_ms": 1e3 * bare_seconds / nfe,
        "sampler_to_bare": medians["sampler"] / bare_seconds,
        "without_network_ms": 1e3 * medians["nothing"],
        "without_network_to_bare": medians["nothing"] / bare_seconds,
        "without_network_to_50_ms_calls": medians["nothing"] / (nfe * CALL),
    }


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", default="bench-sampler.json")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--nfe", type=int, default=8)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--compile", action="store_true", help="compile the network")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model = network(arguments.device)
    if arguments.compile:
        model = torch.compile(model, fullgraph=True, dynamic=False)
    options = {"seed": 0, "device": arguments.device, "batch_size": CPU_BLOCK}
    check(model, options)
    rows = [overhead(model, solver, arguments.nfe, options, arguments.rounds) for solver in FIXED]
    report(rows, arguments.json)


if __name__ == "__main__":
    main()
