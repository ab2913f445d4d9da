"""Saved transforms applied to images, segmentations and points."""
