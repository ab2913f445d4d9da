"""Registration of two image files: the story of the command, its options and its scores."""
