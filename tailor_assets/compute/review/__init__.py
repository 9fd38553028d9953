"""What a person should look at first, what they decided, and the labels that come of it."""
