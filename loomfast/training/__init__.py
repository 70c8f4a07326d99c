"""Training: the loop around Algorithm 1 of the LOOM-CFM paper, what it carries, and what it takes."""
