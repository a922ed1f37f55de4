"""Signs what the sidecar issues itself: keys in memory, in files, in hardware and in key services, behind one port."""
