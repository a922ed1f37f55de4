"""What the outside may know of a decision: metrics, log lines, spans. Never a token, never a label from a request."""
