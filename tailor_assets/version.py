"""The version of tailor that results say they were made with."""

TAILOR_VERSION = "0.1.0"
