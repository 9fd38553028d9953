"""What decides when a run starts, and what notices that one died: the plug-ins of dagster.yaml.

Belongs here: the run coordinator, the run launcher, permanent failure, the pace of pool polling.
Does not belong here: what runs do (tailor_assets), what starts them (sensors).
"""
