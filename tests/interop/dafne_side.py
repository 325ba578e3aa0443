"""Run by the interpreter that has dafne-dl; knows nothing of napari-dante.

Usage: dafne_side.py apply MODEL IMAGE.npz OUT.npz DUMP
       dafne_side.py slices MODEL IMAGE.npz OUT.npz
       dafne_side.py merge MODEL UPDATE OUT
       dafne_side.py remote URL NAME UPDATE WORKDIR   (the key comes in the environment)
"""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
from dafne_dl import RemoteModelProvider
from dafne_dl.model_loaders import generic_load_model


def load(path: str) -> Any:
    with Path(path).open("rb") as stream:
        return generic_load_model(stream)


def apply(model_path: str, image_path: str, out_path: str, dump_path: str) -> None:
    model = load(model_path)
    with np.load(image_path) as data:
        masks = model.apply(
            {
                "image": data["image"],
                "affine": data["affine"],
                "resolution": list(data["resolution"]),
                "split_laterality": False,
                "classification": "Tiny head",
            }
        )
    np.savez(out_path, names=list(masks), masks=np.stack(list(masks.values())))
    with Path(dump_path).open("wb") as stream:
        model.dump(stream)


def slices(model_path: str, image_path: str, out_path: str) -> None:
    """Hand the volume (X, Y, Z) over slice by slice, as the client does with a 2D model."""
    model = load(model_path)
    assert model.data_dimensionality == 2
    with np.load(image_path) as data:
        image, resolution = data["image"], list(data["resolution"])[:2]
    found = [
        model.apply(
            {
                "image": image[:, :, index],
                "resolution": resolution,
                "split_laterality": False,
                "classification": "flat",
            }
        )
        for index in range(image.shape[2])
    ]
    masks = [np.stack([one[name] for one in found], axis=2) for name in found[0]]
    np.savez(out_path, names=list(found[0]), masks=np.stack(masks))


def merge(model_path: str, update_path: str, out_path: str) -> None:
    merged = load(model_path) * 0.5 + load(update_path) * 0.5
    with Path(out_path).open("wb") as stream:
        merged.dump(stream)


def remote(url: str, name: str, update_path: str, work: str) -> None:
    provider = RemoteModelProvider(
        Path(work) / "models", url + "/", os.environ["DAFNE_KEY"], temp_upload_dir=work
    )
    available = provider.available_models()
    model = provider.load_model(name)
    update = load(update_path)
    before = set(threading.enumerate())
    provider.upload_model(name, update, 0.5)
    for thread in set(threading.enumerate()) - before:
        thread.join()
    provider.log("a line")
    facts = {
        "available": available,
        "timestamp": model.timestamp_id,
        "latest": provider.model_details(name)["latest_timestamp"],
        "left": sorted(path.name for path in Path(work).glob("*.model")),
    }
    (Path(work) / "facts.json").write_text(json.dumps(facts))


if __name__ == "__main__":
    actions: dict[str, Any] = {
        "apply": apply,
        "slices": slices,
        "merge": merge,
        "remote": remote,
    }
    actions[sys.argv[1]](*sys.argv[2:])
