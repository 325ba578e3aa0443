"""``python -m napari_dante`` is the command line."""

from napari_dante.cli import main

main()
