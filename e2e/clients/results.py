"""Collects outcomes and prints them as tables: clients down, cases across."""

import sys
import time

OK, FAILED, OWN_FAULT = "ok", "FAILED", "own fault"


class Results:
    def __init__(self):
        self.outcomes = []  # (table, client, case, outcome, detail)
        self.started = time.monotonic()

    def record(self, table, client, case, problem, own_fault=None):
        """`problem`: None, or what went wrong. `own_fault`: (part of the expected problem, reason), where a client is
        known to be at fault itself. Such a client must go wrong in just that way."""
        if own_fault is None:
            outcome, detail = (OK, "") if problem is None else (FAILED, problem)
        elif problem is None:
            outcome, detail = FAILED, f"works, though listed as its own fault: {own_fault[1]}"
        elif own_fault[0] not in problem:
            outcome, detail = FAILED, f"{problem}; expected was its own fault: {own_fault[1]}"
        else:
            outcome, detail = OWN_FAULT, own_fault[1]
        self.outcomes.append((table, client, case, outcome, detail))
        if outcome == FAILED:
            print(f"FAILED: {table}: {client}: {case}: {detail}", file=sys.stderr, flush=True)

    def count(self, outcome):
        return sum(1 for entry in self.outcomes if entry[3] == outcome)

    def print(self):
        for table in dict.fromkeys(entry[0] for entry in self.outcomes):
            self._print_table(table, [entry for entry in self.outcomes if entry[0] == table])
        listed = [entry for entry in self.outcomes if entry[3] == OWN_FAULT]
        if listed:
            print("\nClients that fail for their own fault:")
            for _, client, case, _, reason in listed:
                print(f"  {client}, {case}: {reason}")
        failed = [entry for entry in self.outcomes if entry[3] == FAILED]
        if failed:
            print("\nFailed:")
            for table, client, case, _, detail in failed:
                print(f"  {table}: {client}, {case}: {detail}")
        secs = time.monotonic() - self.started
        print(f"\n{len(self.outcomes)} outcomes in {secs:.0f} s, {len(listed)} of them a client's own fault")
        print(f"{self.count(OK)} passed, {self.count(FAILED)} failed", flush=True)

    @staticmethod
    def _print_table(title, outcomes):
        clients = list(dict.fromkeys(entry[1] for entry in outcomes))
        cases = list(dict.fromkeys(entry[2] for entry in outcomes))
        cells = {(entry[1], entry[2]): entry[3] for entry in outcomes}
        first = max(len(client) for client in clients)
        widths = [max(len(case), *(len(cells.get((client, case), "-")) for client in clients)) for case in cases]
        print(f"\n{title}")
        print("  " + " " * first + "".join(f"  {case:{width}}" for case, width in zip(cases, widths)))
        for client in clients:
            row = (f"  {cells.get((client, case), '-'):{width}}" for case, width in zip(cases, widths))
            print(f"  {client:{first}}" + "".join(row))
