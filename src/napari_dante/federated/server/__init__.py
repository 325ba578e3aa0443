"""A small Dafne-compatible server: it keeps versions of models and averages updates."""

from napari_dante.errors import ShareError

try:
    from napari_dante.federated.server.app import create_app, serve
except ModuleNotFoundError as error:
    raise ShareError(
        f"The server needs '{error.name}': pip install 'napari-dante[server]'.", detail=repr(error)
    ) from error
from napari_dante.federated.server.keys import add_user, first_key
from napari_dante.federated.server.merge import publish

__all__ = ["add_user", "create_app", "first_key", "publish", "serve"]
