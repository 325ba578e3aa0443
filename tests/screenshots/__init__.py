"""Pictures of every state of the panel, made anew by ``scripts/screenshots``."""
