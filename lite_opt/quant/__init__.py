"""Numbers in fewer bits: calibration, rounding, and what they cost, simulated."""
