"""A Paddle inference model in memory, and the formats it is read from and written to."""
