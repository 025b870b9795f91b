"""Reads what was exported with readers that know nothing of how it was written, and prints what is in
it as JSON: a list of objects. Arguments: the form, the file."""
import csv, json, re, sys

def jsonl(path):
    return [json.loads(line) for line in open(path, encoding="utf-8", newline="\n")]

def table(path):
    csv.field_size_limit(1 << 30)
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))

def ocsf(path):
    import jsonschema, ocsf_json_schema
    schemas, events = {}, jsonl(path)
    for event in events:
        about = event["metadata"]
        key = (about["version"], tuple(about["profiles"]))
        if key not in schemas:
            schema = ocsf_json_schema.OcsfJsonSchemaEmbedded(ocsf_json_schema.get_ocsf_schema(about["version"]))
            name = schema.lookup_class_name_from_uid(event["class_uid"])
            schemas[key] = jsonschema.Draft202012Validator(schema.get_class_schema(name, list(about["profiles"])))
        schemas[key].validate(event)
    return events

def cef(path):
    def parts(line):
        # The head has seven parts; '|' and '\' are escaped in it.
        found, part, rest = [], "", iter(enumerate(line))
        for place, char in rest:
            if char == "\\":
                part += next(rest)[1]
            elif char == "|":
                found.append(part)
                part = ""
                if len(found) == 7:
                    return found, line[place + 1:]
            else:
                part += char
        raise ValueError("the head is too short")
    rows = []
    for line in open(path, encoding="utf-8", newline="\n"):
        head, extension = parts(line.rstrip("\n"))
        assert head[0] == "CEF:0" and 0 <= int(head[6]) <= 10, head
        keys = list(re.finditer(r"(?:^| )([A-Za-z0-9]+)=", extension))
        row = {"head": head}
        for key, after in zip(keys, keys[1:] + [None]):
            value = extension[key.end():after.start() if after else None]
            unescape = lambda m: {"n": "\n", "r": "\r"}.get(m[1], m[1])
            assert key[1] not in row, key[1]
            row[key[1]] = re.sub(r"\\(.)", unescape, value)
        rows.append(row)
    return rows

forms = {"jsonl": jsonl, "csv": table, "ocsf": ocsf, "cef": cef}
json.dump(forms[sys.argv[1]](sys.argv[2]), sys.stdout)
