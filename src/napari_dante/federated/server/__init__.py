"""A Dafne-compatible server: keeps versions of models, examines updates and averages them.

The process that answers requests never imports torch; see
:mod:`napari_dante.federated.server.worker` for the one that merges.
"""

from napari_dante.errors import ShareError

try:
    from napari_dante.federated.server.app import create_app
    from napari_dante.federated.server.running import serve
except ModuleNotFoundError as error:
    raise ShareError(
        f"The server needs '{error.name}': pip install 'napari-dante[server]'.", detail=repr(error)
    ) from error
from napari_dante.federated.server.publishing import publish, rollback
from napari_dante.federated.server.users import add_user, first_key

__all__ = ["add_user", "create_app", "first_key", "publish", "rollback", "serve"]
