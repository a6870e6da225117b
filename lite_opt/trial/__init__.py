"""From a model and data to a decision: every recipe, run, counted and judged."""
