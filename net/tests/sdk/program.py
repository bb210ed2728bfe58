"""A program whose hot functions are known, profiled by the Python SDK: what `run.py` looks for in the flame graph."""

import sys
import time

import pyroscope


def hot_fib(n):
    return n if n < 2 else hot_fib(n - 1) + hot_fib(n - 2)


def hot_sort(numbers):
    return sorted(numbers, key=lambda x: -x)


def work():
    hot_fib(18)
    hot_sort(range(20_000))


def main():
    address, application, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
    pyroscope.configure(application_name=application, server_address=address, tags={"proof": "sdk"})
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        work()
    pyroscope.shutdown()  # sends what the last window holds


if __name__ == "__main__":
    main()
