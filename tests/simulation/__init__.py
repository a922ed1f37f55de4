"""Long times and many replicas, in seconds: the real engine, under a clock that goes when the program says so."""
