"""S3 with object lock: moto's, behind a check of each request's signature by botocore.

    store.py ACCESS_KEY SECRET_KEY

Makes the bucket `evidence` with object lock. Prints its port. GET /-/objects tells all that is
stored, and what came of removing each of it.
"""

import base64
import hashlib
import io
import json
import sys
import urllib.parse

from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from moto.core import DEFAULT_ACCOUNT_ID
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from moto.s3.models import s3_backends
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.test import Client

access_key, secret_key = sys.argv[1:3]
BUCKET = "evidence"
moto = DomainDispatcherApplication(create_backend_app)
AUTHORIZED = {
    "Authorization": "AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/s3/aws4_request, "
    "SignedHeaders=host, Signature=x"
}


def direct(method, path, headers=()):
    return Client(moto).open(
        path, method=method, base_url=base, headers={**AUTHORIZED, **dict(headers)}
    )


def wrong(environ, body):
    """What is wrong with a request, or nothing."""
    query = urllib.parse.parse_qs(environ["QUERY_STRING"], strict_parsing=True)
    given = {name: values[0] for name, values in query.items()}
    key, date, region, service, end = given["X-Amz-Credential"].split("/")
    if (key, service, end) != (access_key, "s3", "aws4_request"):
        return "InvalidAccessKeyId"
    headers = {}
    for name in given["X-Amz-SignedHeaders"].split(";"):
        variable = name.upper().replace("-", "_")
        headers[name] = environ.get("HTTP_" + variable) or environ.get(variable, "")
    request = AWSRequest(
        environ["REQUEST_METHOD"],
        f"http://{headers['host']}{environ['RAW_URI'].partition('?')[0]}",
        headers=headers,
    )
    request.context["timestamp"] = given["X-Amz-Date"]
    auth = S3SigV4QueryAuth(
        Credentials(key, secret_key), "s3", region, int(given["X-Amz-Expires"])
    )
    auth._modify_request_before_signing(request)
    text = auth.string_to_sign(request, auth.canonical_request(request))
    if auth.signature(text, request) != given["X-Amz-Signature"]:
        return "SignatureDoesNotMatch"
    for name, digest in [("content-md5", hashlib.md5), ("x-amz-checksum-sha256", hashlib.sha256)]:
        if headers.get(name) != base64.b64encode(digest(body).digest()).decode():
            return "BadDigest"
    if "x-amz-object-lock-mode" not in headers:
        return "AccessDenied"
    return None


def objects():
    found = []
    backend = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
    for name, key in sorted(backend.get_bucket(BUCKET).keys.items()):
        removal = direct("DELETE", f"/{BUCKET}/{name}?versionId={key.version_id}")
        found.append(
            {
                "name": name,
                "note": key.value.decode(),
                "mode": key.lock_mode,
                "until": key.lock_until,
                "removal": removal.status_code,
            }
        )
    return json.dumps(found).encode()


def app(environ, start_response):
    if environ["PATH_INFO"] == "/-/objects":
        start_response("200 OK", [("content-type", "application/json")])
        return [objects()]
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    code = wrong(environ, body)
    if code:
        text = f"<Error><Code>{code}</Code><Message>as botocore sees it</Message></Error>".encode()
        start_response("403 Forbidden", [("content-length", str(len(text)))])
        return [text]
    environ["wsgi.input"] = io.BytesIO(body)
    return moto(environ, start_response)


class Quiet(WSGIRequestHandler):
    def log(self, *_):
        pass


server = make_server("127.0.0.1", 0, app, request_handler=Quiet)
base = f"http://127.0.0.1:{server.port}"
made = direct("PUT", f"/{BUCKET}", {"x-amz-bucket-object-lock-enabled": "true"})
assert made.status_code == 200, made.data
print(server.port, flush=True)
server.serve_forever()
