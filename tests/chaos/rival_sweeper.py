"""A sweeper that minds no lease and never rests: two of these sweep at once with whichever worker sweeps by right."""

from __future__ import annotations

import signal
import sys
import time

from chaos import haste
from tierq_shared import configuration
from tierq_shared.ids import new_id
from tierq_shared.queues import Publisher, make_app
from tierq_shared.store import leases
from tierq_shared.store.connection import Store
from tierq_workers.announcer import Announcer
from tierq_workers.sweeper import Sweeper

_PAUSE_S = 0.01


def main() -> None:
    haste.make()
    leases.held_by_another = lambda *_: False
    leases.take = lambda *_: True
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    settings = configuration.load(configuration.find_file())
    assert settings.database_url is not None
    assert settings.state_url is not None
    store = Store(settings.database_url.get_secret_value())
    announcer = Announcer(settings.state_url.get_secret_value())
    sweeper, holder = Sweeper(store, Publisher(make_app(settings)), settings.worker, announcer.announce), new_id()
    while True:
        sweeper.sweep(holder)
        time.sleep(_PAUSE_S)


if __name__ == "__main__":
    main()
