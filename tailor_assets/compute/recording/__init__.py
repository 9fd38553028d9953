"""A recording as it really is: probing, decoding, choosing frames, writing them as JPEGs."""
