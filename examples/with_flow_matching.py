"""facebookresearch/flow_matching with a LOOM coupling: only x_0 changes (``pip install flow_matching``)."""

import torch
from flow_matching.path import CondOTProbPath

import loomfast
from loomfast.data import load_dataset

data = torch.from_numpy(load_dataset("moons", num_items=1024).train)
network = torch.nn.Sequential(torch.nn.Linear(3, 64), torch.nn.SiLU(), torch.nn.Linear(64, 2))
optimizer, path = torch.optim.Adam(network.parameters(), 1e-3), CondOTProbPath()
coupler = loomfast.Loom(num_items=len(data), shape=(2,), num_caches=4)
for _ in range(20):
    index = torch.randperm(len(data))[:256]
    pair = coupler.couple(data[index], index)
    sample = path.sample(t=torch.rand(256), x_0=pair.noise, x_1=data[index])
    predicted = network(torch.cat([sample.x_t, sample.t[:, None]], dim=1))
    loss = (predicted - sample.dx_t).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print(f"cost of a pair {pair.cost_after:.3f}, loss {loss.item():.3f}")
