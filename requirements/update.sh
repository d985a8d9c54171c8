#!/usr/bin/env bash
# Writes constraints.txt anew from the packages in .venv: run it after trying newer versions there.
# Local version labels (torch's "+cpu") are dropped, so that each machine takes the build its index offers.
set -euo pipefail
cd "$(dirname "$0")/.."
python="${1:-.venv/bin/python}"
{
    echo "# Every package that the demo, the tests and the checks install, at the version they were last run with."
    echo "# Written by requirements/update.sh; do not edit by hand."
    "$python" -m pip freeze --all --exclude-editable --exclude pip --exclude trine | sed -E 's/\+[A-Za-z0-9.]+$//' | LC_ALL=C sort -f
} > requirements/constraints.txt.new
mv requirements/constraints.txt.new requirements/constraints.txt
