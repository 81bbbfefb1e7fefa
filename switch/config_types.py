"""The values a configuration is made of: each says in words what may stand there."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

# A description is the remedy that a person reads, so it completes "give ...".
Count = Annotated[int, Meta(ge=1, le=1_000_000, description="a whole number from 1 to 1000000")]
Days = Annotated[int, Meta(ge=1, le=366, description="a whole number of days from 1 to 366")]
Seconds = Annotated[int, Meta(ge=1, le=86_400, description="whole seconds from 1 to 86400")]
Port = Annotated[int, Meta(ge=0, le=65_535, description="a TCP port, 0 to 65535; 0 is any free")]
MinorUnits = Annotated[
    int, Meta(ge=0, le=999_999_999_999, description="minor units (fen), 0 to 999999999999")
]
CurrencyCode = Annotated[
    str, Meta(pattern=r"\A[0-9]{3}\Z", description='a three-digit ISO 4217 code such as "156"')
]
MerchantCategory = Annotated[
    str, Meta(pattern=r"\A[0-9]{4}\Z", description='a four-digit ISO 18245 code such as "5411"')
]
CutOff = Annotated[
    str,
    Meta(
        pattern=r"\A([01][0-9]|2[0-3]):[0-5][0-9]\Z",
        description='a time of day as "HH:MM", "00:00" to "23:59"',
    ),
]
LinkName = Annotated[
    str,
    Meta(
        pattern=r"\A(?!.*[0-9]{6})[a-z][a-z0-9_-]{0,31}\Z",
        description="1 to 32 small letters, digits, - or _, a letter first, no long number",
    ),
]
AcquirerCode = Annotated[
    str, Meta(pattern=r"\A[0-9]{1,11}\Z", description="the 1 to 11 digits of DE32")
]
PurseCode = Literal["TRN", "GEN"]
TierCode = Literal["T0", "T1", "T2"]


Minutes = Annotated[
    int, Meta(ge=1, le=527_040, description="whole minutes from 1 to 527040 (366 days)")
]
Bin = Annotated[
    str, Meta(pattern=r"\A[0-9]{4,8}\Z", description="the first 4 to 8 digits of card numbers")
]
Owner = Annotated[
    str,
    Meta(
        pattern=r"\A(?!.*[0-9]{6})[a-z][a-z0-9 _-]{0,47}\Z",
        description="1 to 48 small letters, digits, spaces, - or _, a letter first",
    ),
]
MacMethod = Literal["none", "x9.19", "aes_cmac"]


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A table of the file. An unknown key in it is a problem, never ignored."""
