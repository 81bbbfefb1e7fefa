"""From facts to a decision: one function per kind of message, each a ladder of refusals.

The refusals come in the order of `Outcome`. A decision leaves its mark on the loaded
account, so that the next request of the same account in the batch is decided on what this
one leaves. Nothing here waits, reads a clock or writes anywhere.
"""

from switch.decide.keys import AUTH_CODE_ALPHABET, auth_code_of, derived_key
from switch.decide.ladder import decide, resolved_as_answered
from switch.decide.moment import Moment, moment_at, rrn_of
from switch.decide.place_events import buckets_of, counted
from switch.decide.stored import CLAIMS_MAX, stored_reply
from switch.decide.terms import PIN_TRIES_MAX, TRUST_ACCOUNT, Terms

__all__ = [
    "AUTH_CODE_ALPHABET",
    "CLAIMS_MAX",
    "PIN_TRIES_MAX",
    "TRUST_ACCOUNT",
    "Moment",
    "Terms",
    "auth_code_of",
    "buckets_of",
    "counted",
    "decide",
    "derived_key",
    "moment_at",
    "resolved_as_answered",
    "rrn_of",
    "stored_reply",
]
