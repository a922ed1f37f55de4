"""Decision tables: requests that the core must survive, as data, each named by what it proves."""
