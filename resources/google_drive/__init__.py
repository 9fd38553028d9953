"""Google Drive as tailor uses it: one file per concern, `drive.py` puts them together."""
