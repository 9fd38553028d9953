"""The `background` segmenter: a static camera's background model and the animal before it."""
