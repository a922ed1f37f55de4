"""The core, each module by its own file."""
