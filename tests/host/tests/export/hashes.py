"""Verifies lines with nothing but SHA-256: each record is its leaf, each content what it commits to."""

import hashlib
import json
import sys

for line in open(sys.argv[1], encoding="utf-8"):
    item = json.loads(line)
    tables = {}
    for one in item["records"]:
        record = one["record"].encode()
        assert hashlib.sha256(b"\0" + record).hexdigest() == one["leaf"], one
        fields = json.loads(record)
        assert fields["seq"] == one["seq"]
        if "content" in one:
            committed = hashlib.sha256(bytes.fromhex(one["key"]) + one["content"].encode())
            assert committed.hexdigest() == fields["content"], one
            fields |= json.loads(one["content"])
        tables.setdefault(fields["record"], []).append(fields)
    if item["type"] == "command":
        texts = [fields.get("text") for fields in tables["intent"]]
        assert item["statement"] in texts, (item["statement"], texts)
    print(json.dumps({"type": item["type"], "tables": sorted(tables)}))
