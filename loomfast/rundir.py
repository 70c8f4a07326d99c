"""The public name of `loomfast.runs.directory`, where the model cards of exported networks look for it."""

from loomfast.runs.directory import load_model

__all__ = ["load_model"]
