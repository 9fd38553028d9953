"""Many videos: measures per video, statistics per group, exports. docs/cohort.md."""
