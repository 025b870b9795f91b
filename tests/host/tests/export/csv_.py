"""Reads CSV with Python's own reader, and prints each row."""

import csv
import json
import sys

csv.field_size_limit(1 << 30)
for row in csv.DictReader(open(sys.argv[1], encoding="utf-8", newline="")):
    print(json.dumps(row))
