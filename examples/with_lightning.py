"""A Lightning module that trains with a LOOM coupling (``pip install pytorch-lightning``)."""

import pytorch_lightning as lightning
import torch

import loomfast
from loomfast.data import load_dataset
from loomfast.flow import interpolate


class Flow(lightning.LightningModule):
    def __init__(self, num_items):
        super().__init__()
        self.network = torch.nn.Sequential(torch.nn.Linear(3, 64), torch.nn.SiLU(), torch.nn.Linear(64, 2))
        self.coupler = loomfast.Loom(num_items=num_items, shape=(2,), num_caches=4)

    def training_step(self, batch):
        x, index = batch
        t, pair = torch.rand(len(x), device=x.device), self.coupler.couple(x, index)
        x_t, velocity = interpolate(x, pair.noise, t)
        loss = (self.network(torch.cat([x_t, t[:, None]], dim=1)) - velocity).square().mean()
        self.log("cost", pair.cost_after)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 1e-3)

    def on_save_checkpoint(self, checkpoint):
        # Tensors, since torch.load(weights_only=True) refuses NumPy arrays.
        state = self.coupler.state_dict()
        tensors = {name: torch.from_numpy(value) for name, value in state.items() if name != "metadata"}
        checkpoint["coupling"] = {**tensors, "metadata": state["metadata"]}

    def on_load_checkpoint(self, checkpoint):
        self.coupler.load_state_dict(checkpoint["coupling"])


data = torch.from_numpy(load_dataset("moons", num_items=1024).train)
loader = torch.utils.data.DataLoader(
    torch.utils.data.TensorDataset(data, torch.arange(len(data))), batch_size=256, shuffle=True
)
quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
trainer = lightning.Trainer(max_epochs=2, accelerator="cpu", enable_model_summary=False, **quiet)
flow = Flow(len(data))
trainer.fit(flow, loader)
print(f"cost of a pair {float(trainer.callback_metrics['cost']):.3f}, {flow.coupler.step} steps")
