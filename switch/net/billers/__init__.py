"""Hosts of billers: where bills are asked for, paid, looked up and given back.

`client.Billers` is all that others use: one method for each thing that may be said
(protocols/bills/biller.py), which ends by its deadline and raises nothing of HTTP.
"""
