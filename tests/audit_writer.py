"""A process that writes audit records: for tests that kill it.

``python audit_writer.py URL many NAME COUNT`` writes COUNT records (0: without end) and prints one
line for each. ``... URL hang NAME`` stops in its transaction, its record inserted and not committed.
"""

import sys
import time

import sqlalchemy as sa

from resources.audit.log import record
from resources.database import engine_for


def main(url: str, what: str, name: str, count: int = 0) -> None:
    if what == "hang":

        @sa.event.listens_for(engine_for(url), "commit")
        def _hang(_connection: sa.Connection) -> None:
            print("inserted", flush=True)
            time.sleep(600)

    done = 0
    while not count or done < count:
        done += 1
        record(url, actor=name, action="test.write", subject=str(done))
        print(done, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:4], *map(int, sys.argv[4:]))
