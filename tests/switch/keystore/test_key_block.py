"""TR-31 blocks: a published one, round trips, and any text at all."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from switch.keystore.key_block import BLOCKS_MAX, split, unwrap, wrap
from switch.keystore.seam import Algorithm, KeyStoreError, Usage

pytestmark = pytest.mark.filterwarnings("ignore:.*TripleDES")  # psec's spelling of it
TDES = bytes.fromhex("DD7515F2BFC17F85CE48F3CA25CB21F6")
AES = bytes(range(32))
PUBLISHED = "B0080P0TE00E000094B420079CC80BA3461F86FE26EFC4A3B8E4FA4C5F5341176EED7B727B8A248E"
"""X9 TR-31:2018, A.7.2: a PIN key under a double-length key, version B."""
WRAPPING = {Algorithm.TDES: TDES, Algorithm.AES: AES}
WRAPPED = [
    (Usage.MAC, Algorithm.TDES, Algorithm.TDES),
    (Usage.PIN, Algorithm.TDES, Algorithm.TDES),
    (Usage.MAC, Algorithm.TDES, Algorithm.AES),
    (Usage.MAC, Algorithm.AES, Algorithm.AES),
    (Usage.PIN, Algorithm.AES, Algorithm.AES),
    (Usage.PIN_VERIFICATION, Algorithm.HMAC, Algorithm.AES),
    (Usage.READER, Algorithm.AES, Algorithm.AES),
    (Usage.TAC, Algorithm.TDES, Algorithm.TDES),
    (Usage.TAC, Algorithm.AES, Algorithm.AES),
]


def test_a_published_block_is_read():
    found = unwrap(PUBLISHED, TDES, Algorithm.TDES)
    assert found.key.hex().upper() == "3F419E1CB7079442AA37474C2EFBF8B8"
    assert (found.usage, found.algorithm, found.label) == (Usage.PIN, Algorithm.TDES, "")
    assert "3F419E" not in repr(found).upper()


@pytest.mark.parametrize(("usage", "algorithm", "under"), WRAPPED)
@settings(max_examples=20)
@given(
    octets=st.binary(min_size=32, max_size=32),
    label=st.from_regex(r"[a-z0-9/-]{0,40}", fullmatch=True),
)
def test_what_is_wrapped_is_read(usage, algorithm, under, octets, label):
    key = octets[: 16 if algorithm is Algorithm.TDES else 32]
    block = wrap(key, usage, algorithm, label, WRAPPING[under], under)
    assert tuple(unwrap(block, WRAPPING[under], under)) == (key, usage, algorithm, label)
    assert key.hex().upper() not in block
    assert split(block * 2) == [block, block]


def test_a_weaker_key_does_not_protect_a_stronger_one():
    with pytest.raises(KeyStoreError, match="AES zone key"):
        wrap(AES, Usage.MAC, Algorithm.AES, "", TDES, Algorithm.TDES)


@settings(max_examples=300)
@given(at=st.integers(0, len(PUBLISHED) - 1), new=st.characters())
def test_a_changed_block_is_refused(at, new):
    changed = PUBLISHED[:at] + new + PUBLISHED[at + 1 :]
    if changed.upper() == PUBLISHED:
        return
    with pytest.raises(KeyStoreError):
        unwrap(changed, TDES, Algorithm.TDES)


@settings(max_examples=300)
@given(
    text=st.one_of(
        st.text(max_size=200),
        st.from_regex(
            r"[BD][0-9]{4}[PMK][0-9]T[BCE]00[EN][0-9]{2}00[0-9A-F]{0,600}", fullmatch=True
        ),
    )
)
@pytest.mark.parametrize("version", [Algorithm.TDES, Algorithm.AES])
def test_any_text_is_refused_in_one_sentence(version, text):
    with pytest.raises(KeyStoreError) as raised:
        unwrap(text, WRAPPING[version], version)
    assert raised.value.__context__ is None
    try:
        assert "".join(split(text)) == text.rstrip(" ")
    except KeyStoreError:
        pass


def test_more_blocks_than_anyone_sends_are_refused():
    with pytest.raises(KeyStoreError, match="send fewer"):
        split(PUBLISHED * (BLOCKS_MAX + 1))
