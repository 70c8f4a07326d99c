"""Datasets: built-in ones by name, others from files, each with a fixed held-out split."""

from loomfast.data.builtin import DRAWN, LOADERS
from loomfast.data.dataset import Dataset, coupled_items, fingerprint, load_dataset, make_dataset

__all__ = [
    "DRAWN",
    "LOADERS",
    "Dataset",
    "coupled_items",
    "fingerprint",
    "load_dataset",
    "make_dataset",
]
