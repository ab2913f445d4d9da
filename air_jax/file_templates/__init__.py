"""The template of a group: its mean shape and intensity, from a folder of images to files."""
