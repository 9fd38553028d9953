"""A server that speaks Google Drive v3 as google-api-python-client uses it, and misbehaves on request.

Belongs here: the protocol over real HTTP, with its state on disk. Does not belong here: what tailor
makes of it. ``python -m google_drive_server FOLDER`` runs it by itself.
"""
