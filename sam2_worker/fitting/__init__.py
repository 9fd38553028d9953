"""Training of tailor's own small SAM2 on simulated rodents (docs/models.md)."""
