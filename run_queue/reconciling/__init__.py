"""What the reconciler (run_queue/reconciler.py) looks for, one kind of finding per file."""
