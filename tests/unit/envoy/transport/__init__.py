"""Contract tests of the transports, and tests of each one."""
