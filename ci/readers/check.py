"""Has somebody else's reader read an export of kvm-memtype, and prints what it understood as JSON.

usage: check.py FORMAT FILE

Exit code 1 and a reason on standard error: the reader refuses the file. Exit code 2: the reader is not there.
"""

import collections
import contextlib
import io
import json
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
READERS = ROOT / "target/readers"


class Refused(Exception):
    """The reader does not take the file."""


def ktap(path):
    """The kernel's kunit_parser: cells by what it counts them as. What it prints as it goes is shown if it refuses the file."""
    sys.path.insert(0, str(READERS / "kunit"))
    said = io.StringIO()
    # From the import on: some versions keep the standard output that they find then.
    with contextlib.redirect_stdout(said), open(path, encoding="utf-8") as file:
        import kunit_parser
        import kunit_printer

        # Newer ones are told where to print.
        printer = [kunit_printer.stdout] if hasattr(kunit_printer, "null_printer") else []
        test = kunit_parser.parse_run_tests(file, *printer)
    counts = test.counts
    if counts.errors or counts.crashed or counts.total() == 0:
        raise Refused(f"{counts}: {said.getvalue()}")

    def leaves(test):
        below = [leaf for subtest in test.subtests for leaf in leaves(subtest)]
        return below or [test]

    def depth(test):
        return 1 + max((depth(subtest) for subtest in test.subtests), default=-1)

    names = {leaf.name: leaf.status.name for leaf in leaves(test)}
    return {"passed": counts.passed, "failed": counts.failed, "skipped": counts.skipped, "depth": depth(test), "cells": names}


def junit(path):
    """The schema of Jenkins' xUnit plugin, by libxml2; and that the numbers which the schema cannot check are right."""
    from lxml import etree

    schema = etree.XMLSchema(etree.parse(str(READERS / "junit/junit-10.xsd")))
    try:
        document = etree.parse(path)
        schema.assertValid(document)
    except (etree.XMLSyntaxError, etree.DocumentInvalid) as error:
        raise Refused(str(error)) from None
    counts = collections.Counter()
    for suite in document.iter("testsuite"):
        found = {"tests": len(suite.findall("testcase"))}
        for attribute, element in [("failures", "failure"), ("errors", "error"), ("skipped", "skipped")]:
            found[attribute] = len(suite.findall(f"testcase/{element}"))
        said = {name: int(suite.get(name)) for name in found}
        if said != found:
            raise Refused(f"{suite.get('name')} says {said} and holds {found}")
        counts.update(found)
    return dict(counts)


def json_lines(path):
    """The published schema, by the Python package jsonschema: lines by kind, and cells by verdict."""
    import jsonschema

    schema = json.loads((ROOT / "docs/schema/report.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    kinds, verdicts = collections.Counter(), collections.Counter()
    for number, line in enumerate(open(path, encoding="utf-8"), 1):
        try:
            value = json.loads(line)
            validator.validate(value)
        except (json.JSONDecodeError, jsonschema.ValidationError) as error:
            raise Refused(f"line {number}: {error}") from None
        kind = next(name for name in ("format", "cell", "summary", "repetitions") if name in value)
        kinds[kind] += 1
        if kind == "cell":
            verdicts[value["judgement"]["verdict"]] += 1
    return {"lines": kinds, "verdicts": verdicts}


def markdown(path):
    """A CommonMark reader with tables: the cells of the tables, and that nothing became markup that is meant as text."""
    from markdown_it import MarkdownIt

    tokens = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).parse(open(path, encoding="utf-8").read())
    tables, folds = [], 0
    for token in tokens:
        if token.type == "table_open":
            tables.append([])
        elif token.type == "tr_open":
            tables[-1].append([])
        elif token.type == "html_block":
            if not re.fullmatch(r"(<details><summary>[^<>]*</summary>|</details>)\n?", token.content):
                raise Refused(f"markup: {token.content}")
            folds += 1 if "summary" in token.content else -1
        elif token.type == "inline":
            for child in token.children:
                if child.type not in ("text", "code_inline", "strong_open", "strong_close", "softbreak", "text_special"):
                    raise Refused(f"{child.type} in: {token.content}")
            if tables and tables[-1] and token.level > 3:
                tables[-1][-1].append("".join(child.content for child in token.children))
    if folds:
        raise Refused("what is folded has no end")
    if not tables or any(len(row) != len(table[0]) for table in tables for row in table):
        raise Refused("no table")
    return {"tables": tables}


def kcidb(path):
    """kcidb-io's own validation, and that what is referred to is there: objects by kind, tests by status."""
    import kcidb_io

    try:
        data = json.load(open(path, encoding="utf-8"))
        kcidb_io.schema.LATEST.validate(data)
    except Exception as error:  # json's, jsonschema's and its own
        raise Refused(str(error)) from None
    if not kcidb_io.schema.LATEST.is_compatible_exactly(data):
        raise Refused(f"not of version {kcidb_io.schema.LATEST.major}.{kcidb_io.schema.LATEST.minor}")
    ids = {kind: {item["id"] for item in data.get(kind, [])} for kind in kcidb_io.schema.LATEST.graph if kind}
    for kind, items in ids.items():
        if len(items) != len(data.get(kind, [])):
            raise Refused(f"two {kind} have one id")
    for kind, name, of in [("builds", "checkout_id", "checkouts"), ("tests", "build_id", "builds"),
                           ("incidents", "test_id", "tests"), ("incidents", "issue_id", "issues")]:
        for item in data.get(kind, []):
            if item[name] not in ids[of]:
                raise Refused(f"{item['id']}: no {of} {item[name]}")
    return {"objects": {kind: len(items) for kind, items in ids.items()},
            "statuses": collections.Counter(test["status"] for test in data["tests"])}


def prometheus(path):
    """promtool's checks, and the Python client's parser: cells by verdict, and series by metric."""
    tool = subprocess.run([READERS / "promtool/promtool", "check", "metrics"], stdin=open(path, "rb"), capture_output=True,
                          text=True, check=False)
    if tool.returncode or tool.stderr.strip():
        raise Refused(tool.stderr + tool.stdout)
    from prometheus_client.parser import text_string_to_metric_families

    try:
        families = list(text_string_to_metric_families(open(path, encoding="utf-8").read()))
    except ValueError as error:
        raise Refused(str(error)) from None
    verdicts, series = collections.Counter(), {}
    for family in families:
        series[family.name] = len(family.samples)
        if family.name == "kvm_memtype_run_cells":
            for sample in family.samples:
                verdicts[sample.labels["verdict"]] += int(sample.value)
    return {"verdicts": verdicts, "series": series}


def cyclonedx(path):
    """CycloneDX's own schema and library, and that nothing depends on what is not there: components by name."""
    from cyclonedx.model.bom import Bom
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    text = open(path, encoding="utf-8").read()
    if error := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text):
        # The rest of it is the whole schema.
        raise Refused(str(error).splitlines()[0])
    try:
        bom = Bom.from_json(json.loads(text))
        bom.validate()
    except Exception as error:  # its own, of many modules
        raise Refused(str(error)) from None
    return {"of": bom.metadata.component.name, "components": {part.name: part.version for part in bom.components}}


FORMATS = {"ktap": ktap, "junit": junit, "json": json_lines, "markdown": markdown, "kcidb": kcidb, "prometheus": prometheus,
           "cyclonedx": cyclonedx}


def main():
    """Reads the file that the command line names."""
    try:
        json.dump(FORMATS[sys.argv[1]](sys.argv[2]), sys.stdout)
    except Refused as error:
        sys.exit(str(error))
    except (ImportError, FileNotFoundError) as error:
        print(error, file=sys.stderr)
        sys.exit(2)


main()
