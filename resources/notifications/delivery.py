"""How a delivery goes wrong: for now, or for good."""

from datetime import timedelta


class NotDelivered(Exception):
    """It may work later. ``str()`` is for people and holds no secret.

    ``wait``: as long as the other side asks for. ``server``: it would be the same for every other
    message of this channel.
    """

    def __init__(
        self, problem: str, *, wait: timedelta = timedelta(0), server: bool = False
    ) -> None:
        super().__init__(problem)
        self.wait = wait
        self.server = server


class Undeliverable(Exception):
    """It will not work later either. ``str()`` is for people and holds no secret."""
