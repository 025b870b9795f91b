"""Every line of a file is valid by the published schema of the version that it names."""

import json
import sys

from jsonschema import Draft202012Validator
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema

validators = {}
for line in open(sys.argv[1], encoding="utf-8"):
    event = json.loads(line)
    version, profiles = event["metadata"]["version"], event["metadata"]["profiles"]
    if version not in validators:
        schema = OcsfJsonSchemaEmbedded(get_ocsf_schema(version=version))
        name = schema.lookup_class_name_from_uid(class_uid=event["class_uid"])
        of_class = schema.get_class_schema(class_name=name, profiles=profiles)
        validators[version] = Draft202012Validator(of_class)
    for error in validators[version].iter_errors(event):
        sys.exit(f"{list(error.absolute_path)}: {error.message[:400]}")
    print(json.dumps({
        "activity": event["activity_name"],
        "statement": event.get("query_info", {}).get("query_string"),
        "action": event["action_id"],
        "agent": event["unmapped"]["ai_agent"]["name"],
        "program": event["actor"]["process"]["file"]["path"],
        "authorizations": event.get("authorizations"),
    }))
