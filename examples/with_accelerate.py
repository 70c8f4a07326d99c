"""Hugging Face accelerate with a LOOM coupling that every process holds (``pip install accelerate``).

    torchrun --nproc-per-node 2 examples/with_accelerate.py

Every process couples the whole batch, drawn alike by its step, and trains on its share of the pairs: so the
caches stay alike, which rests on equal processors and equal numbers of threads.
"""

import zlib

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

import loomfast
from loomfast.data import load_dataset
from loomfast.flow import interpolate

accelerator = Accelerator(cpu=True)
data = torch.from_numpy(load_dataset("moons", num_items=1024).train)
network = torch.nn.Sequential(torch.nn.Linear(3, 64), torch.nn.SiLU(), torch.nn.Linear(64, 2))
network, optimizer = accelerator.prepare(network, torch.optim.Adam(network.parameters(), 1e-3))
coupler = loomfast.Loom(num_items=len(data), shape=(2,), num_caches=4, seed=0)  # no module: not prepared
for step in range(20):
    index = torch.randperm(len(data), generator=torch.Generator().manual_seed(step))[:256]
    pair = coupler.couple(data[index], index)
    share = slice(accelerator.process_index, None, accelerator.num_processes)
    x, z = data[index][share].to(accelerator.device), pair.noise[share].to(accelerator.device)
    t = torch.rand(len(x), device=x.device)
    x_t, velocity = interpolate(x, z, t)
    loss = (network(torch.cat([x_t, t[:, None]], dim=1)) - velocity).square().mean()
    optimizer.zero_grad()
    accelerator.backward(loss)
    optimizer.step()
checksums = gather_object([zlib.crc32(coupler.ids.tobytes())])
assert len(set(checksums)) == 1, "the processes' caches differ"
accelerator.print(f"cost of a pair {pair.cost_after:.3f}, loss {loss.item():.3f}, {len(checksums)} processes")
