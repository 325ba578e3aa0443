"""Performance, measured in pairs: two variants in turn in one run, medians, the ratio."""
