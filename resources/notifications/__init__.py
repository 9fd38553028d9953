"""What tailor tells people, by e-mail and Slack.

Whoever has something to say puts it into the outbox (`outbox.py`, in the texts of `templates.py`); a
sensor sends what is due (`sender.py`), in the order and at the rate of `turns.py`, to whom
`recipients.py` names. A tenant says in `preferences.py` what it wants to hear and where; operators
say it in the environment.
"""
