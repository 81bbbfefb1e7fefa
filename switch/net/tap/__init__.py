"""Readers on the network: gates, buses and depots behind concentrators, over `protocols.tap`.

`link.py` is a configured port, `connection.py` one concentrator on it; `dialect.py` turns
words into requests and replies into words, `uploads.py` and `upload_desk.py` take batches of
offline records in, `lists.py` hands the hotlist out, `device_keys.py` asks the key store.
"""
