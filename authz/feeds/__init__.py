"""Documents that are kept fresh in the background: the only network clients of the project.

If a refresh fails, a feed keeps the last good document for a configured time.
"""
