"""torch's files: zip archives of a pickle and its tensors."""
