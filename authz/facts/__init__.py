"""Facts that others know: asked for on threads that may wait, and kept as long as they hold."""
