"""The server as a process."""

from __future__ import annotations

import logging
import socket
import ssl
from pathlib import Path

import uvicorn

from napari_dante.errors import ShareError
from napari_dante.federated.server.app import create_app

__all__ = ["serve"]

_LOG = logging.getLogger("napari_dante")


def serve(
    data: Path,
    host: str = "127.0.0.1",
    port: int = 8000,
    *,
    certfile: Path | None = None,
    keyfile: Path | None = None,
    behind_proxy: bool = False,
) -> None:
    """Run the server of the folder `data` until it is interrupted.

    Parameters
    ----------
    data
        Its folder.
    host, port
        Where it listens.
    certfile, keyfile
        Certificate chain and private key, PEM. Without them it speaks plain HTTP, which
        is for this computer, or for a TLS proxy before it.
    behind_proxy
        Believe a proxy on this computer when it says where a request comes from.

    Raises
    ------
    ShareError
        If the port or the certificate cannot be used.
    """
    if (certfile is None) != (keyfile is None):
        raise ShareError("TLS takes both a certificate and its private key.")
    config = uvicorn.Config(
        create_app(data),
        access_log=False,
        log_config=None,
        log_level="warning",
        server_header=False,
        proxy_headers=behind_proxy,
        ssl_certfile=certfile,
        ssl_keyfile=keyfile,
    )
    try:
        config.load()
    except (OSError, ssl.SSLError) as error:
        raise ShareError("The certificate or its key cannot be used.", repr(error)) from error
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family)
    except OSError as error:
        raise ShareError(f"Port {port} cannot be used on this computer.", repr(error)) from error
    with listener:
        _LOG.info("serving on %s port %d", host, listener.getsockname()[1])
        uvicorn.Server(config).run(sockets=[listener])
