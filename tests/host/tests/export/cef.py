"""Reads CEF as its specification says, and prints each event's extension."""

import json
import re
import sys

for line in open(sys.argv[1], encoding="utf-8", newline="\n"):
    header = re.match(r"CEF:0((?:\|(?:[^|\\]|\\[|\\])*){6})\|", line)
    assert header, line
    # A value goes on to the next key, which is a word before an equals sign that stands alone.
    rest = line.removesuffix("\n")[header.end():]
    fields = re.findall(r"(\w+)=((?:[^=\\]|\\.)*?)(?= \w+=|$)", rest)
    assert " ".join(f"{key}={value}" for key, value in fields) == rest, rest
    plain = {"\\n": "\n", "\\r": "\r"}
    undo = lambda value: re.sub(r"\\(.)", lambda m: plain.get(m[0], m[1]), value)
    print(json.dumps({key: undo(value) for key, value in fields}))
