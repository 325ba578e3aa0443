"""What a person set under Preferences, or the defaults of the manifest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from napari.settings import get_plugin_settings

from napari_dante.adapt.training import Device

__all__ = ["Settings", "read_settings", "remember_server"]

PLUGIN = "napari-dante"


@dataclass(frozen=True)
class Settings:
    """``threads`` is None where the worker shall choose; ``executor`` empty: this computer."""

    server: str
    device: Device
    threads: int | None
    executor: str


def read_settings() -> Settings:
    """Return the settings as they are now."""
    plugin = get_plugin_settings(PLUGIN)
    return Settings(
        server=plugin.sharing.server.strip(),
        device=cast("Device", plugin.computing.device),
        threads=plugin.computing.threads or None,
        executor=plugin.computing.executor.strip(),
    )


def remember_server(url: str) -> None:
    """Keep the address of the server for next time."""
    get_plugin_settings(PLUGIN).sharing.server = url
