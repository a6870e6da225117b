"""One Run against another: differences, limits, the verdict, and where it comes from."""
