"""What the outside may know of a decision."""
