"""Facts from other systems: asked for on threads that may wait, and cached until they expire."""
