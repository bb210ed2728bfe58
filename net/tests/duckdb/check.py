#!/usr/bin/env python3
"""Holds the queries of docs/duckdb.md to what the engine answers of the same block.

    check.py BLOCK_DIR      a block, with expected.json beside it (bench/tests/blocks.rs writes both)
"""
import json
import os
import re
import sys

import duckdb

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../..")


def queries():
    text = open(os.path.join(ROOT, "docs/duckdb.md"), encoding="utf-8").read()
    return {name: sql for name, sql in re.findall(r"```sql\n-- (\w+)\n(.*?)```", text, re.S)}


def top(values):
    return sorted(values.items(), key=lambda item: (-item[1], item[0]))[:20]


def main():
    os.chdir(sys.argv[1])
    expected = json.load(open("expected.json", encoding="utf-8"))
    sql = queries()
    database = duckdb.connect()
    failed = False

    def compare(what, found, wanted):
        nonlocal failed
        equal = sum(1 for a, b in zip(found, wanted) if a == b)
        print(f"{what}: {equal}/{len(wanted)}")
        if found != wanted:
            failed = True
            for pair in zip(found, wanted):
                if pair[0] != pair[1]:
                    print(f"  found {pair[0]}, expected {pair[1]}")

    totals = [list(row) for row in database.execute(sql["totals"]).fetchall()]
    compare("totals by service and type", totals, sorted(expected["totals"]))
    for view in ("values", "callers", "frames"):
        database.execute(sql[view])
    for functions in expected["functions"]:
        chosen = {"service": functions["service"], "type": functions["type"]}
        for kind in ("self", "total"):
            rows = [tuple(row) for row in database.execute(sql[kind], chosen).fetchall()]
            compare(f"top functions of {chosen['type']} by {kind}", rows, top(functions[kind]))
    sys.exit(1 if failed else 0)


main()
