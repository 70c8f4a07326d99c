"""Run directories: what is in them, and whatever is done with a run that was trained."""
