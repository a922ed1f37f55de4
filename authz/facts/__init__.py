"""Facts from other systems: requested on threads that may block, and cached until they expire."""
