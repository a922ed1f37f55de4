"""One bounded GET: whom to trust, how to connect, how to read the answer."""
