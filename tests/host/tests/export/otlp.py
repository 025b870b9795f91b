"""A receiver of OTLP over HTTP that is as unreliable as it may be.

It decodes with OpenTelemetry's own protobuf, keeps a line for each record that it took, and by turns
takes a request, is away, asks to wait, breaks off after it took it, and is slow.
"""

import json
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

from google.protobuf import json_format
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)

port, kept, turns = int(sys.argv[1]), sys.argv[2], iter(sys.argv[3].split(","))


def plain(value):
    return getattr(value, value.WhichOneof("value"))


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        turn = next(turns, "take")
        body = self.rfile.read(int(self.headers["content-length"]))
        if turn in ("503", "429", "401"):
            return self.say(int(turn), b"", {"retry-after": "1"} if turn == "429" else {})
        if turn == "hang up":
            return self.connection.close()
        # Strict: what the schema does not know is an error.
        request = json_format.Parse(body, ExportLogsServiceRequest())
        assert ExportLogsServiceRequest.FromString(request.SerializeToString()) == request
        if turn == "many" and sum(len(s.log_records) for r in request.resource_logs for s in r.scope_logs) > 1:
            return self.say(413, b"", {})
        lines = []
        for of in request.resource_logs:
            host = {a.key: plain(a.value) for a in of.resource.attributes}["host.name"]
            for scope in of.scope_logs:
                for record in scope.log_records:
                    attributes = {a.key: plain(a.value) for a in record.attributes}
                    lines.append({"host": host, "event": record.event_name, "time": record.time_unix_nano,
                                  "token": self.headers.get("authorization"), **attributes})
        with open(kept, "a", encoding="utf-8") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)
        if turn == "break off":
            return self.connection.close()
        if turn == "slow":
            time.sleep(2)
        answer = ExportLogsServiceResponse()
        if turn == "partial":
            answer.partial_success.rejected_log_records = 1
            answer.partial_success.error_message = "one is too old"
        self.say(200, json_format.MessageToJson(answer).encode(), {"content-type": "application/json"})

    def say(self, status, body, headers):
        self.send_response(status)
        for name, value in (headers | {"content-length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


HTTPServer(("127.0.0.1", port), Receiver).serve_forever()
