"""Runs under the interpreter that has peft; nothing of napari-dante is here.

    peft_side.py read DIR ...    logits of the base with the adapter in DIR/peft
    peft_side.py write DIR ...   put an adapter of peft's own into DIR/peft, and its logits

Each DIR holds network.json, weights.safetensors and image.npy, and gets logits.npy.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.networks import nets
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file


def base(folder: Path) -> Any:
    name, arguments = json.loads((folder / "network.json").read_text())
    network = getattr(nets, name)(spatial_dims=3, in_channels=1, **arguments)
    network.load_state_dict(load_file(folder / "weights.safetensors"))
    return network.eval()


def read(folder: Path) -> Any:
    return PeftModel.from_pretrained(base(folder), str(folder / "peft"))


def write(folder: Path) -> Any:
    options = json.loads((folder / "options.json").read_text())
    torch.manual_seed(5)
    network = get_peft_model(base(folder), LoraConfig(**options))
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.requires_grad:
                parameter += 0.1 * torch.randn_like(parameter)
    network.save_pretrained(str(folder / "peft"))
    return network


def main() -> None:
    command, *folders = sys.argv[1:]
    for folder in map(Path, folders):
        network = {"read": read, "write": write}[command](folder).eval()
        with torch.no_grad():
            logits = network(torch.from_numpy(np.load(folder / "image.npy")))
        np.save(folder / "logits.npy", logits.numpy())


main()
