#!/usr/bin/env python3
"""The proof with real agents: the Python SDK pushes, the flame graph names the hot functions, and a server that was
killed and started again draws the same one. Then the captured requests of other agents, where the corpus is at hand.

    python3 net/tests/sdk/run.py [--server target/release/pyrite] [--seconds 20]

Needs nothing but Python: the SDK goes into a virtual environment under the target directory. Where the package index
cannot be reached the first part says so and is skipped.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

from server import CPU, ROOT, TARGET, Server, check, http, now_ms, server_binary

HERE = pathlib.Path(__file__).resolve().parent
SDK = "pyroscope-io"
APPLICATION = "sdk.proof"
HOT_FUNCTIONS = ("hot_fib", "hot_sort")


def main():
    options = arguments()
    server = server_binary(options.server)
    python = sdk_python(TARGET / "sdk-venv")
    if python:
        prove_restart(server, python, options.seconds)
    else:
        print(f"skipped: {SDK} cannot be installed here, the package index was not reached")
    captures = captures_folder()
    if captures:
        replay_captures(server, captures)
    else:
        print("skipped: no captured requests of other agents here")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--server", help="the pyrite binary (default: the release build)")
    parser.add_argument("--seconds", type=float, default=20, help="how long the profiled program runs")
    return parser.parse_args()


# ---- the SDK ---------------------------------------------------------------------------------------------------------


def sdk_python(venv):
    """The interpreter of a virtual environment with the SDK in it, or None where it cannot be had."""
    python = venv / "bin" / "python"
    if python.is_file() and subprocess.run([python, "-c", "import pyroscope"], capture_output=True).returncode == 0:
        return python
    try:
        subprocess.run([sys.executable, "-m", "venv", "--clear", venv], check=True, timeout=120)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", SDK], check=True, timeout=300)
    except (subprocess.SubprocessError, OSError) as error:
        print(f"{SDK}: {error}")
        return None
    return python


def prove_restart(server, python, seconds):
    with tempfile.TemporaryDirectory(prefix="pyrite-sdk-") as data:
        with Server(server, data) as first:
            start_ms = now_ms() - 60_000
            print(f"the SDK profiles a program for {seconds:g} s")
            subprocess.run([python, HERE / "program.py", first.address, APPLICATION, str(seconds)], check=True, timeout=seconds + 60)
            window = {"start": start_ms, "end": now_ms() + 60_000}
            before = first.flame_graph(APPLICATION, window)
            check_hot_functions(before, seconds)
            first.kill()
        with Server(server, data) as second:
            after = second.flame_graph(APPLICATION, window)
            check(paths(after) == paths(before), f"the flame graph changed over a kill:\n{before}\n{after}")
            second.stop()
    print(f"ok: killed and started again, the same flame graph: {before['total']} ns, {len(before['names'])} names")


def check_hot_functions(graph, seconds):
    own = self_values(graph)
    total = int(graph["total"])
    for name in HOT_FUNCTIONS:
        found = sum(value for function, value in own.items() if name in function)
        check(found > 0, f"{name} is not in the flame graph: {sorted(own)}")
        print(f"  {name}: {found / total:.0%} of the samples")
    hot = sum(value for function, value in own.items() if any(name in function for name in (*HOT_FUNCTIONS, "<lambda>")))
    check(hot > total / 2, f"the hot functions have {hot} of {total} ns")
    # A busy machine gives the program less than a core; a tenth of the time is proof enough that windows were not lost.
    check(total > seconds * 1e9 / 10, f"{total} ns in {seconds} s")


def self_values(graph):
    """Self value by function: levels hold (offset, total, self, name) of every node."""
    own = {}
    for level in graph["levels"]:
        values = [int(v) for v in level["values"]]
        for i in range(0, len(values), 4):
            name = graph["names"][values[i + 3]]
            own[name] = own.get(name, 0) + values[i + 2]
    return own


def paths(graph):
    """(total, self) by path of names from the root: what a flame graph says, whatever the order of its tables."""
    found, parents = {}, [(0, int(graph["total"]) + 1, "")]
    for level in graph["levels"]:
        values = [int(v) for v in level["values"]]
        nodes, x, parent = [], 0, 0
        for i in range(0, len(values), 4):
            offset, total, own, name = values[i : i + 4]
            x += offset
            while x >= parents[parent][1]:
                parent += 1
            path = f"{parents[parent][2]};{graph['names'][name]}"
            found[path] = (total, own)
            nodes.append((x, x + total, path))
            x += total
        parents = nodes
    return found


# ---- captured requests ---------------------------------------------------------------------------------------------


def captures_folder():
    shared = pathlib.Path(os.environ.get("PYRITE_SHARED", "../shared"))
    folder = (ROOT / shared) / "corpus" / "captures"
    return folder if folder.is_dir() else None


def replay_captures(server, captures):
    """Every request that an agent sent to a path served here is taken, and each service has its functions."""
    with tempfile.TemporaryDirectory(prefix="pyrite-captures-") as data, Server(server, data) as running:
        services, taken = set(), 0
        for meta in sorted(captures.glob("pyroscope*/*.json")):
            request = json.loads(meta.read_text())
            headers = {name: value for name, value in request["headers"] if name.startswith("content-") and name != "content-length"}
            status, body = http(running.address + request["target"], meta.with_suffix(".body").read_bytes(), headers)
            check(status == 200, f"{meta.parent.name}/{meta.stem}: {status} {body.decode(errors='replace')}")
            taken += 1
        window = {"start": 1, "end": now_ms() + 60_000}
        for service in running.rpc("LabelValues", {"name": "service_name", **window}).get("names", []):
            services.add(service)
            types = running.rpc("Series", {"matchers": [f'{{service_name="{service}"}}'], "labelNames": ["__profile_type__"], **window})
            kinds = {pair["value"] for labels in types["labelsSet"] for pair in labels["labels"]}
            for kind in kinds:
                graph = running.flame_graph(service, window, kind)
                check(len(graph["names"]) > 3, f"{service} {kind}: only {graph['names']}")
        check(len(services) >= 4, f"services: {services}")
        running.stop()
    print(f"ok: {taken} captured requests of other agents were taken; services: {', '.join(sorted(services))}")


if __name__ == "__main__":
    main()
