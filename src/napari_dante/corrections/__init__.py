"""Which voxels and slices a person corrected."""

from napari_dante.corrections.record import CorrectionRecord, Corrections

__all__ = ["CorrectionRecord", "Corrections"]
