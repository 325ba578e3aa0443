"""Sharing weights, and nothing but weights, with a Dafne server."""

from napari_dante.federated.client import DafneClient, ModelInfo
from napari_dante.federated.credentials import api_key, remember_api_key
from napari_dante.federated.gate import Light, fit_to_share, judge
from napari_dante.federated.history import Receipt, shares
from napari_dante.federated.outbox import Item, Outbox, outbox_path
from napari_dante.federated.sharing import push_file

__all__ = [
    "DafneClient",
    "Item",
    "Light",
    "ModelInfo",
    "Outbox",
    "Receipt",
    "api_key",
    "fit_to_share",
    "judge",
    "outbox_path",
    "push_file",
    "remember_api_key",
    "shares",
]
