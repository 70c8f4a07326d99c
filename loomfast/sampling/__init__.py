"""From noise to samples."""
