"""One test file per module, in the folders of the package."""
