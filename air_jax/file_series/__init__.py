"""The correction of motion in a time series, from file to files."""
