"""Examples of the standards, as data: one file for each RFC, each entry with its section."""
