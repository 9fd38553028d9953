"""Numbers per frame from masks: shape, movement, nest, and their statistics over time."""
