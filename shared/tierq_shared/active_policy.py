"""The policy in force: the version that is active in SQL, else that of the configuration."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence

from sqlalchemy import Connection

from tierq_shared.errors import PolicyRefused
from tierq_shared.policy import Policy, Signals
from tierq_shared.policy_document import DocumentRule, PolicyDocument
from tierq_shared.settings import Settings
from tierq_shared.store import policies
from tierq_shared.store.connection import Store

log = logging.getLogger("tierq")

_INSTEAD = "the configuration's own policy holds here instead"

FRESH_S = 2.0
"""How long what was read of the active version is taken for granted."""


class DocumentPolicy(Policy):
    """A policy whose rules may say in which order a tier's deployments are tried."""

    def __init__(self, rules: Sequence[DocumentRule], tiers: Sequence[str], version: str) -> None:
        super().__init__(rules, tiers, version)
        self._chains = [rule.chain for rule in rules]

    def order(self, signals: Signals, tier: str) -> tuple[str, ...]:
        index = self.match(signals) if any(self._chains) else None
        if index is None or self.rules[index].tier != tier:
            return ()
        return self._chains[index] or ()

    def orders(self, tier: str) -> set[tuple[str, ...]]:
        chains = zip(self.rules, self._chains, strict=True)
        return {(), *(chain for rule, chain in chains if rule.tier == tier and chain)}


def policy_of(document: PolicyDocument, settings: Settings) -> Policy | None:
    """A document as this process can go by it; None where it names a tier that the configuration does not have.

    The tiers are those of the configuration. A producer that knows only the URLs goes by the document's.
    """
    tiers = settings.tier_names if settings.tiers else document.tiers
    if any(rule.tier not in tiers for rule in document.policy):
        return None
    return DocumentPolicy(document.policy, tiers, document.version)


class ActivePolicy:
    """The policy in force, read again when what is known of it is older than `FRESH_S`. Safe to share by threads."""

    def __init__(self, settings: Settings, store: Store, fresh_s: float = FRESH_S) -> None:
        self._settings = settings
        self._store = store
        self._fresh_s = fresh_s
        self._configured = settings.make_policy()
        self._policy = self._configured
        self._version: str | None = None
        self._read_at = float("-inf")
        self._reading = threading.Lock()

    def current(self) -> Policy:
        """The policy in force, as it was at most `FRESH_S` ago.

        Raises:
            sqlalchemy.exc.DBAPIError: the store cannot be read (a producer's store raises StoreError).
        """
        with self._reading:
            if time.monotonic() - self._read_at >= self._fresh_s:
                self._read()
            return self._policy

    def _read(self) -> None:
        with self._store.reading() as connection:
            version = policies.active_version(connection)
            if version != self._version:
                self._policy = self._configured if version is None else self._usable(connection, version)
                self._version = version
        self._read_at = time.monotonic()

    def _usable(self, connection: Connection, version: str) -> Policy:
        """A version as this process can go by it; the configuration's own policy where it cannot."""
        try:
            document = policies.get(connection, version)
        except PolicyRefused as error:
            log.error("%s; %s", error, _INSTEAD)  # noqa: TRY400  # where it was raised is of no use
            return self._configured
        policy = policy_of(document, self._settings)
        if policy is None:
            missing = sorted({rule.tier for rule in document.policy} - set(self._settings.tier_names))
            what = "goes to tiers that this process's configuration does not have"
            log.error("policy version %s %s (%s); %s", version, what, ", ".join(missing), _INSTEAD)
        return policy or self._configured
