"""Starting what `tailor up` and `tailor demo` run: PostgreSQL, code server, daemon, webserver.

Belongs here: processes, their logs, their end. Does not belong here: what they are told to do
(dagster.yaml, tailor_assets/definitions.py), what people type (tailor_assets/cli.py).
"""
