"""Adapt a segmentation model to your own MRI scanner, inside napari."""
