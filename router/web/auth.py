"""Who calls: a bearer key turned into an account, and the admin key."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping

from router.errors import InvalidApiKey, NotAllowed
from router.policy.policy import Account, PolicySet


def key_of(headers: Mapping[str, str]) -> str | None:
    """Return the key from `authorization: Bearer` or `x-api-key`; None where neither is there."""
    scheme, _, key = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and key.strip():
        return key.strip()
    return headers.get("x-api-key")


def account_of(policies: PolicySet, headers: Mapping[str, str]) -> Account | None:
    """Return the account that a request's key belongs to; None where there are no accounts, and the proxy is open.

    Every digest is compared, and each in constant time, so that the time tells nothing about any key.

    Raises:
        InvalidApiKey: no key, or an unknown one.
    """
    if not policies.accounts:
        return None
    key = key_of(headers)
    if key is None:
        raise InvalidApiKey("No API key: send one as `Authorization: Bearer KEY`.")
    digest = hashlib.sha256(key.encode()).digest()
    found = None
    for account in policies.accounts.values():
        for known in account.key_digests:
            if hmac.compare_digest(known, digest):
                found = account
    if found is None:
        raise InvalidApiKey("This API key is not known here; `farthing keys new` makes one.")
    return found


def admit_admin(admin_key: str | None, headers: Mapping[str, str]) -> None:
    """Let a call to /admin pass.

    Raises:
        NotAllowed: no admin key is set, so nobody may.
        InvalidApiKey: another key, or none.
    """
    if not admin_key:
        raise NotAllowed("No admin key is set; start the proxy with FARTHING_ADMIN_KEY to use /admin.")
    key = key_of(headers)
    if key is None:
        raise InvalidApiKey("The admin key is needed here: send it as `Authorization: Bearer KEY`.")
    if not hmac.compare_digest(key.encode(), admin_key.encode()):
        raise InvalidApiKey(
            "This is not the admin key that the proxy was started with (FARTHING_ADMIN_KEY or --admin-key)."
        )
