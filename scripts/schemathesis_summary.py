"""schemathesis_summary.py NAME REPORT LEAST says what came of a run, and ends with
1 if an answer was a 5xx, if over 1 % were 429, or if fewer than LEAST operations
succeeded at all: then the run tested little but its own refusal."""

import collections
import json
import sys

MOST_LIMITED = 0.01
MOST_NAMED = 10


def answers(path):
    """Yields operation and status of each answer of a report, 0 for none."""
    with open(path, encoding="utf-8") as report:
        for line in report:
            scenario = json.loads(line).get("ScenarioFinished")
            if scenario is None:
                continue
            recorder = scenario["recorder"]
            for exchange in recorder.get("interactions", {}).values():
                response = exchange.get("response")
                yield recorder["label"], response["status_code"] if response else 0


def main(name, path, least):
    statuses, tried, succeeded = collections.Counter(), set(), set()
    for operation, status in answers(path):
        statuses[status] += 1
        # Stateful scenarios go over many operations and have no method in front.
        if " /" in operation:
            tried.add(operation)
            if 200 <= status < 300:
                succeeded.add(operation)
    total = statuses.total()
    print(f"{name}: {total} requests to {len(tried)} operations, {len(succeeded)} of which succeeded")
    print("  answers: " + ", ".join(f"{n} of {status}" for status, n in sorted(statuses.items())))
    missing = sorted(tried - succeeded)
    if 0 < len(missing) <= MOST_NAMED:
        print("  never succeeded: " + ", ".join(missing))
    faults = []
    if errors := sum(n for status, n in statuses.items() if status >= 500 or status == 0):
        faults.append(f"{errors} answers are 5xx or did not come")
    if statuses[429] > MOST_LIMITED * total:
        faults.append(f"{statuses[429]} answers are 429, over {MOST_LIMITED:.0%}")
    if len(succeeded) < least:
        faults.append(f"only {len(succeeded)} operations succeeded, want {least}")
    for fault in faults:
        print(f"  FAIL {fault}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
