"""Examples: what can be made with the package, outside of it."""
