"""tools/gdb-tasks.py lists and unwinds the tasks of a running program.

    test_gdb.py GDB SCRIPT PROGRAM

PROGRAM prints a line when its tasks wait.  Exit 77 (skipped) where gdb may not
attach."""

import subprocess
import sys

gdb, script, program = sys.argv[1:]
child = subprocess.Popen([program], stdout=subprocess.PIPE, text=True)
try:
    child.stdout.readline()
    run = subprocess.run(
        [gdb, "-nx", "-batch", "-p", str(child.pid), "-x", script, "-ex", "tasks bt"],
        capture_output=True, text=True, timeout=100)
finally:
    child.kill()
    child.wait()
out = run.stdout
if "ptrace:" in run.stderr or "Could not attach" in run.stderr:
    print("gdb may not attach here")
    sys.exit(77)
for wanted in ("sleeper", "waiting for sleep", "deep_two", "deep_one", "task_main",
               "2 tasks", "ms left"):
    if wanted not in out:
        print("missing:", wanted, "in", out, run.stderr)
        sys.exit(1)
