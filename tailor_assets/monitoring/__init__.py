"""How tailor is doing, for people and their monitoring: metrics, health, structured logs.

Belongs here: what is looked at and how it is told. Nothing here changes anything, and nothing here
may hang: whoever asks how tailor is asks when something is stuck. Does not belong here: starting
the service (tailor_assets/services), deciding by what is seen (sensors, run_queue).
"""
