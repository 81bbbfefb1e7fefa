"""The whole life of authorizations with nothing broken: the reckoning itself must come out."""

from __future__ import annotations


def test_life_without_faults_comes_out_even(database, life_setting, life):
    staged = life_setting(database)
    with staged.serving(workers=2) as ready:
        tills = life(staged, ready.links["retail-1"], "--rate", "80")
        tills.approved(300)
        summary = tills.stop()
    found = tills.reckoned()
    assert found.sound, found.worst
    assert not found.unresolved
    assert not summary.mismatched
    kinds = {name.split()[0] for name in summary.codes}
    assert kinds >= {"purchase", "void", "refund", "completion", "preauthorization_cancel"}
    told = {name.split()[1] for name in summary.codes}
    assert told.isdisjoint({"30", "58", "63", "94", "96"}), summary.codes
