"""What people and tailor itself decided, in a log that cannot be changed unnoticed.

Belongs here: the log ``tailor.audit_log`` and its chain of hashes, the head that is noted outside the
database, the mirrors in BigQuery and Cloud Logging, and what a deployment consists of. Does not
belong here: what is worth recording (whoever decides calls ``log.record``), how it is shown to people
(tailor_assets/commands), and events of runs, which Dagster keeps.
"""
