"""Looks the pinned packages up among the known vulnerabilities; asks the package index, which must hold advisories.

usage: python tools/audit.py constraints.txt          (or: make audit)
Exit code 1 when a pinned version has a known vulnerability. An index without advisories is said, and passes: then
nothing was audited.
"""

import json
import subprocess
import sys

COMMAND = ["pip-audit", "--no-deps", "--disable-pip", "--progress-spinner", "off", "--format", "json", "--requirement"]


def main() -> None:
    found = subprocess.run([*COMMAND, sys.argv[1]], capture_output=True, text=True)
    if not found.stdout.strip():
        sys.exit(f"error: pip-audit failed: {found.stderr.strip()[-500:]}")
    packages = json.loads(found.stdout)["dependencies"]
    audited = [package for package in packages if "skip_reason" not in package]
    print(f"audited {len(audited)} of {len(packages)} packages")
    if not audited:
        print("warning: this package index has no advisories, nothing was audited", file=sys.stderr)
    faults = [(package, fault) for package in audited for fault in package["vulns"]]
    for package, fault in faults:
        fixed = ", ".join(fault["fix_versions"]) or "no version"
        print(f"{package['name']} {package['version']}: {fault['id']}, fixed in {fixed}")
    if faults:
        sys.exit("hint: raise the version in constraints.txt: pip install --upgrade NAME, then make pin")


if __name__ == "__main__":
    main()
