"""Crash test 2 for the spool alone: power cuts at random points of a run."""
import roomcrash
from crashtest import once_is_enough

pytestmark = once_is_enough


class Promises:
    """What must be, and what may be, after a cut at an offset of the trace."""

    def __init__(self, lines):
        self.lines = lines

    def at(self, offset):
        must, may_end, ended, expanded = {}, set(), set(), set()
        for what, when, seq, *more in self.lines:
            if what == "begin":
                # Its end may be on the disk as soon as it began, whenever the
                # next line was printed.
                if int(when) <= offset:
                    may_end.add(seq)
            elif int(when) > offset:
                continue
            elif what == "ack":
                must[seq] = more
            elif what == "done":
                ended.add(seq)
            elif what == "expanded":
                expanded.add(seq)
        return must, may_end, ended, expanded


def check(exe, state, lines, offset):
    """Start on a state; the list of what is wrong."""
    promises = Promises(lines)
    out, wrong = roomcrash.look(exe, state)
    if wrong:
        return wrong
    must, may_end, ended, expanded = promises.at(offset)
    every = {line[2]: line[3:] for line in promises.lines if line[0] == "ack"}
    have = {}
    for line in out:
        what, seq, *more = line.split(maxsplit=2)
        if what == "bad":
            wrong.append(line)
        elif what == "new":
            if seq in every and seq in must:
                wrong.append(f"number {seq} was used again")
        elif seq in have:
            wrong.append(f"{seq} is there twice")
        else:
            have[seq] = more[0].split()
    for seq, want in must.items():
        if seq not in have:
            if seq not in may_end:
                wrong.append(f"{seq} is lost")
        elif have[seq][:2] != want:
            wrong.append(f"{seq} is {have[seq]}, not {want}")
        elif seq in expanded and have[seq][2] != "5":
            wrong.append(f"{seq} lost its expansion: {have[seq]}")
    for seq in ended & set(have):
        wrong.append(f"{seq} had ended durably and is back")
    return wrong


def test_crash_spool(tmp_path):
    lines = roomcrash.cut(roomcrash.build("spool"), tmp_path, "spool", 30, roomcrash.states(60),
                          check)
    assert sum(1 for line in lines if line[0] == "ack") == 120
