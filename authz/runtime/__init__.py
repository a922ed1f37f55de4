"""The process: how it starts, becomes ready, reloads, drains and ends, alone or as several workers."""
