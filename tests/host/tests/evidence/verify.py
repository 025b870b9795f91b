"""Verifies a log by docs/auditors.md alone: one file, its checkpoints, and the public key."""

import base64
import hashlib
import json
import sqlite3
import subprocess
import sys
import tempfile

CONTENT = {
    "intent": ["text", "parameters"],
    "outcome": ["error_message", "response", "notices"],
    "process": ["command_line"],
}


def form(members):
    return json.dumps(members, ensure_ascii=False, separators=(",", ":")).encode()


def leaf(table, row):
    content = CONTENT.get(table, [])
    members = {"record": table}
    for name in row.keys():
        if name not in content + ["content_key", "content_digest"] and row[name] is not None:
            members[name] = row[name]
    held = {name: row[name] for name in content if row[name] is not None}
    if held:
        members["content"] = hashlib.sha256(row["content_key"] + form(held)).hexdigest()
    elif content and row["content_digest"] is not None:
        members["content"] = row["content_digest"].hex()
    return hashlib.sha256(b"\0" + form(members)).digest()


def root(leaves):
    """RFC 6962, section 2.1."""
    if not leaves:
        return hashlib.sha256().digest()
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return hashlib.sha256(b"\1" + root(leaves[:k]) + root(leaves[k:])).digest()


def signed(text, line, key):
    """c2sp.org/signed-note; the key as DER (RFC 8410) for openssl."""
    name, key_id, encoded = key.split("+", 2)
    _, signer, signature = line.split(" ")
    signature = base64.b64decode(signature)
    if signer != name or signature[:4].hex() != key_id:
        return False
    public = base64.b64decode(encoded)[1:]
    with tempfile.TemporaryDirectory() as folder:
        files = {
            "key": bytes.fromhex("302a300506032b6570032100") + public,
            "text": text.encode(),
            "signature": signature[4:],
        }
        for name, content in files.items():
            with open(f"{folder}/{name}", "wb") as file:
                file.write(content)
        command = "openssl pkeyutl -verify -pubin -keyform DER -rawin"
        command = command.split() + ["-inkey", f"{folder}/key", "-in", f"{folder}/text"]
        command += ["-sigfile", f"{folder}/signature"]
        return subprocess.run(command, stdout=subprocess.DEVNULL).returncode == 0


log, key = sys.argv[1], sys.argv[2].strip()
db = sqlite3.connect(f"file:{log}?mode=ro", uri=True)
db.row_factory = sqlite3.Row
tables = [
    name
    for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
    if "seq" in [column["name"] for column in db.execute(f"PRAGMA table_info({name})")]
    and name != "tree"
]
found = {row["seq"]: leaf(table, row) for table in tables for row in db.execute(f"SELECT * FROM {table}")}
leaves = [found[seq] for seq in range(1, len(found) + 1)]
checkpoints = list(db.execute("SELECT size, note FROM checkpoint ORDER BY size"))
for size, note in checkpoints:
    text, line = note[: note.rindex("\n\n") + 1], note.splitlines()[-1]
    origin, told, head = text.splitlines()
    assert origin == key.split("+")[0] and int(told) == size, note
    assert base64.b64decode(head) == root(leaves[:size]), f"another root at {size}"
    assert signed(text, line, key), f"no signature at {size}"
assert checkpoints
print(len(checkpoints), "checkpoints over", checkpoints[-1]["size"], "of", len(leaves), "records")
