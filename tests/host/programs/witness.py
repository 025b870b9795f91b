"""A witness as c2sp.org/tlog-witness has it, for one log.

Written from the specifications and RFC 9162 (section 2.1.4.2), and from nothing of ours: it is to
find out where we differ from them.

    witness.py PORT LOG_KEY_FILE STATE_FILE JOURNAL

LOG_KEY_FILE holds the log's verifier key; it may come later. STATE_FILE keeps the newest checkpoint
that was signed. JOURNAL has a line for each request: old size, new size, status. Prints its own
verifier key and its port.
"""

import base64
import hashlib
import http.server
import json
import os
import sys
import time

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

NAME = "witness.test/w1"
KEY = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"a witness of the tests").digest())
PUBLIC = KEY.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
KEY_ID = hashlib.sha256(NAME.encode() + b"\n\x04" + PUBLIC).digest()[:4]

port, log_key_file, state_file, journal = int(sys.argv[1]), *sys.argv[2:5]


class Refusal(Exception):
    def __init__(self, status, why, kind="text/plain"):
        self.status, self.why, self.kind = status, why, kind


def decode(text):
    return base64.b64decode(text, validate=True)


def log_keys():
    """The log's name, the id of its key and the key."""
    try:
        name, key_id, key = open(log_key_file).read().strip().split("+", 2)
    except OSError:
        return None
    raw = decode(key)
    assert raw[0] == 1 and len(raw) == 33
    assert hashlib.sha256(name.encode() + b"\n" + raw).digest()[:4].hex() == key_id
    return name, bytes.fromhex(key_id), Ed25519PublicKey.from_public_bytes(raw[1:])


def node(left, right):
    return hashlib.sha256(b"\x01" + left + right).digest()


def consistent(first, first_root, second, second_root, proof):
    """RFC 9162, section 2.1.4.2, for 0 < first < second."""
    if not proof:
        return False
    path = list(proof)
    if first & (first - 1) == 0:
        path.insert(0, first_root)
    fn, sn = first - 1, second - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    fr = sr = path[0]
    for c in path[1:]:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            fr, sr = node(c, fr), node(c, sr)
            while not (fn & 1 or fn == 0):
                fn, sn = fn >> 1, sn >> 1
        else:
            sr = node(sr, c)
        fn, sn = fn >> 1, sn >> 1
    return fr == first_root and sr == second_root and sn == 0


def decimal(text):
    if not text.isascii() or not text.isdigit() or str(int(text)) != text:
        raise Refusal(400, "no size")
    return int(text)


def add_checkpoint(body):
    """The sizes, and the line that is answered."""
    head, empty, note = body.partition("\n\n")
    lines = head.split("\n")
    word, _, old = lines[0].partition(" ")
    if not empty or word != "old" or len(lines) > 64:
        raise Refusal(400, "not a request")
    old = decimal(old)
    try:
        proof = [decode(line) for line in lines[1:]]
    except ValueError:
        raise Refusal(400, "no hashes")
    if any(len(h) != 32 for h in proof):
        raise Refusal(400, "no hashes")
    text, empty, signatures = note.rpartition("\n\n")
    text += "\n"
    fields = text.split("\n")
    if not empty or len(fields) < 4 or not signatures.endswith("\n"):
        raise Refusal(400, "no checkpoint")
    origin, size, root = fields[0], decimal(fields[1]), decode(fields[2])
    log = log_keys()
    if log is None or log[0] != origin:
        raise Refusal(404, "an unknown log")
    name, key_id, key = log
    signed = False
    for line in signatures.splitlines():
        dash, by, signature = line.split(" ")
        raw = decode(signature)
        if dash != "—":
            raise Refusal(400, "no signature")
        if (by, raw[:4]) == (name, key_id):
            try:
                key.verify(raw[4:], text.encode())
            except InvalidSignature:
                raise Refusal(403, "a wrong signature")
            signed = True
    if not signed:
        raise Refusal(403, "not signed by the log")
    if old > size:
        raise Refusal(400, "the old size is the larger one")
    known = {"size": 0, "root": None}
    if os.path.exists(state_file):
        known = json.load(open(state_file))
    if old != known["size"]:
        raise Refusal(409, f"{known['size']}\n", "text/x.tlog.size")
    if old == 0:
        good = not proof and (size > 0 or root == hashlib.sha256(b"").digest())
    elif old == size:
        good = not proof and root == decode(known["root"])
    else:
        good = consistent(old, decode(known["root"]), size, root, proof)
    if not good:
        raise Refusal(422, "not consistent")
    with open(state_file + ".next", "w") as file:
        json.dump({"size": size, "root": fields[2], "note": note}, file)
        file.flush()
        os.fsync(file.fileno())
    os.rename(state_file + ".next", state_file)
    now = int(time.time())
    signature = KEY.sign(f"cosignature/v1\ntime {now}\n{text}".encode())
    line = base64.b64encode(KEY_ID + now.to_bytes(8, "big") + signature).decode()
    # A client passes over what it does not know.
    stranger = base64.b64encode(b"\0\1\2\3" + b"x" * 72).decode()
    return f"— witness.test/other {stranger}\n— {NAME} {line}\n"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        try:
            if self.path != "/prefix/add-checkpoint":
                raise Refusal(404, "nothing is here")
            status, text, kind = 200, add_checkpoint(body), "text/plain"
        except Refusal as refusal:
            status, text, kind = refusal.status, refusal.why, refusal.kind
        lines = body.split("\n")
        size = lines[lines.index("") + 2] if "" in lines else "?"
        with open(journal, "a") as file:
            file.write(f"{lines[0]} {size} {status}\n")
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        pass


server = http.server.HTTPServer(("127.0.0.1", port), Handler)
print(f"{NAME}+{KEY_ID.hex()}+{base64.b64encode(bytes([4]) + PUBLIC).decode()}", flush=True)
print(server.server_address[1], flush=True)
server.serve_forever()
