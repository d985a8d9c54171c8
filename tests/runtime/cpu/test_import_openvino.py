from __future__ import annotations

import pytest
from new_process import in_new_process

LOADED = "print(sorted(name for name in sys.modules if name.startswith('openvino_telemetry')), 'ssl' in sys.modules)"


@pytest.mark.parametrize(
    "importing",
    [
        "from trine.runtime.cpu.import_openvino import import_openvino; import_openvino()",
        "from trine.runtime.cpu import import_backend; import_backend('openvino')",
        "from trine.runtime.cpu.openvino_executor import load_openvino; load_openvino()",
    ],
)
def test_openvino_reports_to_nobody(importing: str) -> None:
    assert in_new_process(f"import sys; {importing}; import openvino; {LOADED}") == "[] False"


def test_the_telemetry_can_still_be_imported_afterwards() -> None:
    program = (
        "import sys; from trine.runtime.cpu.import_openvino import import_openvino; import_openvino()\n"
        "import importlib.util; print('openvino_telemetry' in sys.modules)"
    )
    assert in_new_process(program) == "False"


def test_where_openvino_is_missing() -> None:
    program = (
        "import sys; sys.modules['openvino'] = None\n"
        "from trine.runtime.cpu.import_openvino import import_openvino\n"
        "try: import_openvino()\n"
        "except ImportError: print('openvino_telemetry' in sys.modules)"
    )
    assert in_new_process(program) == "False"
