"""From features to behaviour, and from changes of behaviour to windows for review."""
