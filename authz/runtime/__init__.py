"""The process around the parts: how it starts, reloads, becomes ready, drains and ends, alone or as several workers."""
