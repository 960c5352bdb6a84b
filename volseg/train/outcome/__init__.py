"""What becomes of a finished training: predictions of held-out cases, scores, postprocessing, pictures, card and package."""
