"""Knowledge kept fresh in the background: the only network clients of the project.

The core is strict and raises on anything odd; a feed decides what is normal: it keeps the last good keys, for a stated
time.
"""
