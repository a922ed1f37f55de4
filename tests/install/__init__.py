"""Proofs about the installation: by old and new versions of pip, beside an index that offers newer releases."""
