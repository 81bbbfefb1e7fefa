"""The readers' protocol: compact binary frames of gates, buses and depots, and what they say.

Every frame is `length(2) | version(1) | type(1) | key version(1) | device(8) | sequence(4) |
body | MAC(8)`, integers big-endian, the length counting all that follows it. The MAC is an
AES-CMAC cut to 8 bytes over everything between length and MAC, under the device's own key.
An answer repeats device and sequence of its request, so that a concentrator can have many
devices' frames under way on one connection, in any order.
"""
