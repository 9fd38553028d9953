"""The GPU side: segments one video with SAM2 in its own environment, speaking Dagster Pipes."""
