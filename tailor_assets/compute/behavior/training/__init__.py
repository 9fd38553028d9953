"""Behaviour models from people's labels: read, trained, validated by video, kept in versions."""
