"""Reads Parquet with Arrow's C++ implementation, and prints each row."""

import json
import sys

import pyarrow.parquet as parquet

table = parquet.read_table(sys.argv[1])
print({field.name: str(field.type) for field in table.schema}, file=sys.stderr)
for row in table.to_pylist():
    print(json.dumps(row, default=str))
