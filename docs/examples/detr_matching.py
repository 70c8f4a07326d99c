"""DETR's matching loss (Carion et al., 2020): a set of boxes is predicted, and matched with those there are.

    python docs/examples/detr_matching.py [--out docs/examples] [--small]

Pictures of 32 x 32 hold one to five rectangles of two kinds, light and dark. A small network predicts ten
boxes with a class each, where the third class is "nothing". Every training step solves one assignment for
each picture, of queries to its boxes: a list of matrices of different widths in one call.
"""

import argparse
from pathlib import Path

import torch
from matplotlib import pyplot as plt
from torch import nn
from torch.nn import functional as F

import loomfast

QUERIES, MOST, SIZE, NOTHING = 10, 5, 32, 2


def pictures(num, generator):
    """Pictures (num, 1, SIZE, SIZE); of each its boxes (k, 4), cx, cy, w, h in [0, 1], and kinds (k,)."""
    images, targets = 0.05 * torch.randn(num, 1, SIZE, SIZE, generator=generator), []
    for image in images:
        k = int(torch.randint(1, MOST + 1, (), generator=generator))
        size = torch.randint(5, 13, (k, 2), generator=generator)
        corner = (torch.rand(k, 2, generator=generator) * (SIZE - size)).long()
        kinds = torch.randint(0, 2, (k,), generator=generator)
        for (x, y), (w, h), kind in zip(corner.tolist(), size.tolist(), kinds.tolist(), strict=True):
            image[0, y : y + h, x : x + w] = 1 - 2 * kind
        targets.append((torch.cat([corner + size / 2, size], 1) / SIZE, kinds))
    return images, targets


class Detector(nn.Module):
    """Convolutions to 8 x 8 places, and queries that look at them once."""

    def __init__(self, width=64):
        super().__init__()
        self.body = nn.Sequential(
            *(nn.Conv2d(1, width // 2, 5, stride=2, padding=2), nn.ReLU()),
            *(nn.Conv2d(width // 2, width, 3, stride=2, padding=1), nn.ReLU()),
            *(nn.Conv2d(width, width, 3, padding=1), nn.ReLU()),
        )
        self.place = nn.Parameter(0.1 * torch.randn(64, width))
        self.queries = nn.Parameter(torch.randn(QUERIES, width))
        self.attention = nn.ModuleList(
            nn.TransformerDecoderLayer(width, 4, 2 * width, dropout=0.0, batch_first=True) for _ in range(2)
        )
        self.boxes, self.kinds = nn.Linear(width, 4), nn.Linear(width, 3)

    def forward(self, images):
        """Boxes (b, QUERIES, 4) in [0, 1] and logits (b, QUERIES, 3)."""
        memory = self.body(images).flatten(2).mT + self.place
        found = self.queries.expand(len(images), -1, -1)
        for layer in self.attention:
            found = layer(found, memory)
        return self.boxes(found).sigmoid(), self.kinds(found)


def generalised_iou(a, b):
    """Generalised IoU (Rezatofighi et al., 2019) of boxes (..., 4) and (..., 4), broadcast."""
    low_a, high_a = a[..., :2] - a[..., 2:] / 2, a[..., :2] + a[..., 2:] / 2
    low_b, high_b = b[..., :2] - b[..., 2:] / 2, b[..., :2] + b[..., 2:] / 2
    both = (torch.minimum(high_a, high_b) - torch.maximum(low_a, low_b)).clamp(min=0).prod(-1)
    union = a[..., 2:].prod(-1) + b[..., 2:].prod(-1) - both
    around = (torch.maximum(high_a, high_b) - torch.minimum(low_a, low_b)).prod(-1)
    return both / union - (around - union) / around


@torch.no_grad()
def matched(boxes, logits, targets):
    """For every picture the queries of its boxes: (rows, columns), DETR's equation 1."""
    costs = [
        5 * torch.cdist(one, wanted, p=1)
        - 2 * generalised_iou(one[:, None], wanted)
        - score.softmax(-1)[:, kinds]
        for one, score, (wanted, kinds) in zip(boxes, logits, targets, strict=True)
    ]
    return loomfast.solve(costs).pairs()


def loss_of(boxes, logits, targets):
    """DETR's loss: classes of all queries, boxes of those that are matched (equation 2)."""
    kinds = torch.full(logits.shape[:2], NOTHING)
    found, wanted = [], []
    for k, (rows, columns) in enumerate(matched(boxes, logits, targets)):
        kinds[k, rows] = targets[k][1][columns]
        found.append(boxes[k, rows])
        wanted.append(targets[k][0][columns])
    found, wanted = torch.cat(found), torch.cat(wanted)
    of_kinds = F.cross_entropy(logits.mT, kinds, weight=torch.tensor([1.0, 1.0, 0.2]))
    return of_kinds + 5 * F.l1_loss(found, wanted) + 2 * (1 - generalised_iou(found, wanted)).mean()


def draw(losses, images, boxes, logits, targets, path):
    figure, axes = plt.subplots(1, 5, figsize=(12, 2.6))
    axes[0].plot(losses, lw=0.8, color="#2b6cb0")
    axes[0].set_xlabel("step")
    axes[0].set_title("loss", fontsize=9)
    for k, axis in enumerate(axes[1:]):
        axis.imshow(images[k, 0].numpy(), cmap="gray", vmin=-1.5, vmax=1.5, extent=(0, 1, 1, 0))
        shown = logits[k].argmax(-1) != NOTHING
        for some, style in ((targets[k][0], ("#2f855a", 3)), (boxes[k][shown], ("#dd6b20", 1.3))):
            for cx, cy, w, h in some.tolist():
                corner = cx - w / 2, cy - h / 2
                axis.add_patch(plt.Rectangle(corner, w, h, fill=False, ec=style[0], lw=style[1]))
        axis.axis("off")
    axes[1].set_title("there (green), predicted (orange)", fontsize=9)
    figure.tight_layout()
    figure.savefig(path, dpi=90)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("--small", action="store_true", help="a few steps, for a test")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    steps, batch = (5, 8) if arguments.small else (1000, 32)
    network = Detector()
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=steps)
    losses = []
    for _ in range(steps):
        images, targets = pictures(batch, generator)
        loss = loss_of(*network(images), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    images, targets = pictures(200, generator)
    with torch.no_grad():
        boxes, logits = network(images)
    overlaps = [
        generalised_iou(boxes[k, rows], targets[k][0][columns])
        for k, (rows, columns) in enumerate(matched(boxes, logits, targets))
    ]
    print(
        f"loss {losses[0]:.2f} -> {losses[-1]:.2f}; "
        f"generalised IoU of new pictures {torch.cat(overlaps).mean():.2f}"
    )
    draw(losses, images, boxes, logits, targets, arguments.out / "detr_matching.png")


if __name__ == "__main__":
    main()
