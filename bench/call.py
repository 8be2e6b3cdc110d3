# SPDX-License-Identifier: BSD-2-Clause
"""Runs in a node: for each line of stdin, [path, environment], it calls a program and answers [ms, status, stderr].

A process of its own in the node, so that nothing but the program is measured.
"""

import json
import subprocess
import sys
import time

for line in sys.stdin:
    program, environment = json.loads(line)
    began = time.monotonic()
    done = subprocess.run([program], env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    took = 1000 * (time.monotonic() - began)
    print(json.dumps([took, done.returncode, done.stderr]), flush=True)
