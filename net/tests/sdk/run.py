#!/usr/bin/env python3
"""The proof with real agents: the Python, Node, Go and Rust SDKs each push what a program does, and the flame graph names its
hot functions; a server that was killed and started again draws the same ones. Then the captured requests of other agents, where
the corpus is at hand.

    python3 net/tests/sdk/run.py [--server target/release/pyrite] [--seconds 20] [--only python,go]

Needs nothing but Python and Cargo: SDKs, and Go and Node where the machine has none, go into the target directory. What cannot
be installed is named and skipped.
"""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

import toolchain
from server import CPU, ROOT, TARGET, Server, check, http, now_ms, server_binary

HERE = pathlib.Path(__file__).resolve().parent
INSTALL_SECONDS = 900
# A program that has run out of time may take so long to send what it holds.
FAREWELL_SECONDS = 60


def main():
    options = arguments()
    server = server_binary(options.server)
    programs = {}
    for sdk in SDKS:
        if sdk.name not in options.only.split(","):
            continue
        program = sdk.program()
        if program:
            programs[sdk] = program
        else:
            print(f"skipped: the {sdk.name} SDK cannot be installed here")
    if programs:
        prove(server, programs, options.seconds)
    captures = captures_folder()
    if captures:
        replay_captures(server, captures)
    else:
        print("skipped: no captured requests of other agents here")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--server", help="the pyrite binary (default: the release build)")
    parser.add_argument("--seconds", type=float, default=20, help="how long the profiled programs run")
    parser.add_argument("--only", default=",".join(sdk.name for sdk in SDKS), help="SDKs to try (default: all)")
    return parser.parse_args()


# ---- the SDKs --------------------------------------------------------------------------------------------------------


class Sdk:
    """An agent: how its program is made ready, and what the program is busy with."""

    def __init__(self, name, install, profile_type, hot_functions):
        self.name = name
        self.install = install
        self.profile_type = profile_type
        self.hot_functions = hot_functions
        self.application = f"sdk.proof.{name}"

    def program(self):
        """The command that takes (address, application, seconds), or None where it cannot be had."""
        try:
            return self.install()
        except (subprocess.SubprocessError, OSError) as error:
            print(f"{self.name}: {error}")
            return None


def run(*command, **options):
    """A step of an installation; what it says is shown when it fails."""
    done = subprocess.run(command, timeout=INSTALL_SECONDS, capture_output=True, text=True, **options)
    if done.returncode != 0:
        print(f"{done.stdout[-1000:]}{done.stderr[-1000:]}")
        done.check_returncode()


def python_program():
    venv = TARGET / "sdk-venv"
    python = venv / "bin" / "python"
    if not python.is_file() or subprocess.run([python, "-c", "import pyroscope"], capture_output=True).returncode != 0:
        run(sys.executable, "-m", "venv", "--clear", venv)
        run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "pyroscope-io")
    return [python, HERE / "program.py"]


def node_program():
    node = toolchain.node()
    if node is None:
        return None
    # Modules are looked for beside the program, so it runs from a copy.
    folder = TARGET / "sdk-node"
    shutil.copytree(HERE / "node", folder, dirs_exist_ok=True)
    run(*toolchain.npm(node), "ci", "--no-audit", "--no-fund", "--loglevel=error", cwd=folder)
    return [node, folder / "program.js"]


def go_program():
    go = toolchain.go()
    if go is None:
        return None
    program = (TARGET / "sdk-go").resolve()
    run(go, "build", "-o", program, ".", cwd=HERE / "go", env=toolchain.go_environment())
    return [program]


def rust_program():
    target = TARGET / "sdk-rust"
    run("cargo", "build", "--release", "--locked", "--quiet", "--target-dir", target.resolve(), cwd=HERE / "rust")
    return [target / "release" / "sdk-proof"]


SDKS = (
    Sdk("python", python_program, CPU, ("hot_fib", "hot_sort")),
    Sdk("node", node_program, "wall:cpu:nanoseconds:wall:nanoseconds", ("hotPrimes",)),
    Sdk("go", go_program, CPU, ("hotCollatz",)),
    Sdk("rust", rust_program, CPU, ("hot_checksum",)),
)


def prove(server, programs, seconds):
    with tempfile.TemporaryDirectory(prefix="pyrite-sdk-") as data:
        with Server(server, data) as first:
            start_ms = now_ms() - 60_000
            print(f"the SDKs profile a program each for {seconds:g} s: {', '.join(sdk.name for sdk in programs)}")
            run_together(first.address, programs, seconds)
            window = {"start": start_ms, "end": now_ms() + 60_000}
            before = {sdk: first.flame_graph(sdk.application, window, sdk.profile_type) for sdk in programs}
            for sdk, graph in before.items():
                check_hot_functions(sdk, graph, seconds)
            first.kill()
        with Server(server, data) as second:
            for sdk, graph in before.items():
                after = second.flame_graph(sdk.application, window, sdk.profile_type)
                check(paths(after) == paths(graph), f"{sdk.name}: the flame graph changed over a kill:\n{graph}\n{after}")
            second.stop()
    print(f"ok: killed and started again, the same {len(programs)} flame graphs")


def run_together(address, programs, seconds):
    running = {}
    try:
        for sdk, program in programs.items():
            log = tempfile.TemporaryFile("w+")
            command = [*program, address, sdk.application, str(seconds)]
            running[sdk] = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log), log
        end = time.monotonic() + seconds + FAREWELL_SECONDS
        for sdk, (process, log) in running.items():
            code = process.wait(timeout=max(1, end - time.monotonic()))
            log.seek(0)
            check(code == 0, f"{sdk.name}: the program ended with {code}:\n{log.read()[-2000:]}")
    finally:
        for process, log in running.values():
            if process.poll() is None:
                process.kill()
                process.wait()
            log.close()


def check_hot_functions(sdk, graph, seconds):
    total = int(graph["total"])
    own = {path: own for path, (_, own) in paths(graph).items()}

    def under(names):
        return sum(value for path, value in own.items() if any(name in path for name in names))

    for name in sdk.hot_functions:
        check(under([name]) > 0, f"{sdk.name}: {name} is not in the flame graph: {sorted(graph['names'])}")
        print(f"  {sdk.name}: {name}: {under([name]) / total:.0%} of the samples")
    hot = under(sdk.hot_functions)
    check(hot > total / 2, f"{sdk.name}: the hot functions and what they call have {hot} of {total} ns: {own}")
    # A busy machine gives a program less than a core; a twentieth of the time is proof enough that windows were not lost.
    check(total > seconds * 1e9 / 20, f"{sdk.name}: {total} ns in {seconds} s")


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
