"""Work outside the viewer's process: job folders, events, the worker."""
