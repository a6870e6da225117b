"""The page of a comparison: one file that says whether to ship, what that rests on, and why."""
