"""Debit files (批扣, domain §3.4): a biller's list of bills, collected from cards by mandate.

`file_format` is how a file is spelt, `intake` takes one in, `collecting` works it off at
idle priority, `routes` is the HTTP API of all that.
"""
