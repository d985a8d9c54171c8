from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from pathlib import Path

import onnx
import pytest
from cli_models import classifier
from runtime.cuda.sample_plans import plan

from trine.dtypes import DataType
from trine.engine.manifest import Manifest, TensorInfo
from trine.engine.portable_graph import PortableGraph
from trine.errors import ConfigError
from trine.profile import OptimizationProfile, ShapeRange
from trine.report import Answer, Fact, Latency, Photo, engine_page, sections, write_page
from trine.runtime.cuda.plan_bytes import plan_to_bytes

PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)
VOID = {"meta", "img", "input", "br", "rect", "path", "circle"}
EVIL = "</style></script><script>alert('\"1\"')</script><img src=http://evil.example/x>"


@dataclass(frozen=True)
class Contents:
    manifest: Manifest
    graph: PortableGraph
    plans: dict[str, bytes] = field(default_factory=lambda: {"cpu": b"{}"})


def row(case: str, error: float | str, problem: str = "") -> dict[str, object]:
    metrics = {"relative_error": error, "max_abs_error": error, "top1_agreement": 1.0}
    return {
        "case": case, "output": "scores", "shape": [2, 5], "dtype": "float32", "tolerance": 1e-4,
        "metrics": metrics, "problem": problem,
    }  # fmt: skip


def engine(**changes: object) -> Contents:
    manifest = Manifest(
        "tiny",
        "tiny.onnx",
        (TensorInfo("images", DataType.FLOAT32, ("batch", 3, 8, 8)),),
        (TensorInfo("scores", DataType.FLOAT32, ("batch", 5)),),
        OptimizationProfile({"images": ShapeRange((1, 3, 8, 8), (2, 3, 8, 8), (4, 3, 8, 8))}),
        evidence={
            "passed": True, "precision": "fp32", "tolerance": 1e-4, "seed": 0, "notes": [],
            "rows": [row("example", 2e-7), row("max", 0.0)], "row_independence": None,
        },
        build={
            "stages": [{"name": "import", "seconds": 1.5}, {"name": "verify", "seconds": 0.0}],
            "passes": [{"name": "FoldConstants", "changed": 2}, {"name": "Idle", "changed": 0}],
            "tactics": [
                {"name": "openvino", "chosen": True, "latency_ms": 0.2, "reasons": [], "options": {}},
                {"name": "onnxruntime", "chosen": False, "latency_ms": None, "reasons": ["no <Foo>"], "options": {}},
            ],
        },
    )  # fmt: skip
    return Contents(replace(manifest, **changes), PortableGraph(classifier(2).SerializeToString()))


class Balanced(HTMLParser):
    """Fails where an element is closed that is not the open one; collects what a browser would fetch."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.fetched: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.fetched += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)


PHOTOS = [
    Photo("cat", PNG, {"trine": [Answer("cat", 0.9), Answer("dog", 0.1)], "PyTorch": [Answer("cat", 0.88)]}, "by me"),
    Photo("dog", PNG, {"trine": [Answer("cat", 0.9)], "PyTorch": [Answer("wolf", 0.88)]}),
    Photo("nothing", PNG, {}),
]
LATENCIES = [Latency("batch 1", "trine", 1.0), Latency("batch 1", "PyTorch", 2.5)]


def test_a_whole_page_stands_alone() -> None:
    html = engine_page(engine(), photos=PHOTOS, latencies=LATENCIES, facts=[Fact("6 of 6", "agree")], title="Three")
    parsed = Balanced(html)
    assert parsed.fetched
    assert all(value.startswith("data:image/png;base64,") for value in parsed.fetched)
    assert not re.search(r"@import|url\(|https?://", html)
    assert parsed.tags.count("script") == parsed.tags.count("style") == 1
    for part in (
        "Three",
        "6 of 6",
        "by me",
        "2.50&times; the time of trine",
        "cat (not wolf)",
        "conv0",
        "batch\N{MULTIPLICATION SIGN}3\N{MULTIPLICATION SIGN}8",
    ):
        assert part in html


def test_what_was_chosen_refused_and_why() -> None:
    html = engine_page(engine())
    assert "no &lt;Foo&gt;" in html
    assert html.count('class="chosen"') == 1
    assert "verified against its source" in html
    assert "Found nothing to change: Idle." in html
    assert "Answers</h2>" not in html
    assert "Speed</h2>" not in html


def test_launches_on_gpus() -> None:
    contents = engine()
    sample = plan(1, 4)
    evil = tuple({**group, "name": EVIL} for group in sample.buckets[1].groups)
    sample = replace(sample, device_name=EVIL, buckets=(sample.buckets[0], replace(sample.buckets[1], groups=evil)))
    html = engine_page(replace(contents, plans={"cpu": b"{}", "cuda_sm_90": plan_to_bytes(sample)}))
    Balanced(html)
    assert "On NVIDIA GPUs" in html
    assert 'class="launches"' in html
    assert EVIL not in html
    assert "On NVIDIA GPUs" not in engine_page(contents)


def test_light_and_dark() -> None:
    html = engine_page(engine())
    assert "prefers-color-scheme: dark" in html
    assert "color-scheme: light dark" in html


@pytest.mark.parametrize("build", [{}, {"tactics": [], "stages": [], "passes": []}])
def test_an_engine_without_evidence(build: dict[str, object]) -> None:
    html = engine_page(engine(evidence=None, build=build))
    Balanced(html)
    assert "not verified" in html
    assert "Built with verification off" in html


def test_a_comparison_that_failed() -> None:
    rows = [row("example", "inf", "wrong <shape>"), {**row("max", 0.0), "metrics": None}]
    html = engine_page(engine(evidence={"passed": False, "precision": "fp32", "rows": rows, "seed": None}))
    Balanced(html)
    assert "outside its accuracy budget" in html
    assert "wrong &lt;shape&gt;" in html


def test_hostile_names_stay_text() -> None:
    made = engine(
        name=EVIL,
        source=EVIL,
        versions={EVIL: EVIL},
        build={
            "tactics": [{"name": EVIL, "chosen": True, "latency_ms": 1.0, "reasons": [EVIL], "options": {EVIL: EVIL}}],
            "stages": [{"name": EVIL, "seconds": 1.0}],
            "passes": [{"name": EVIL, "changed": 1}],
            "cpu": EVIL,
        },
        evidence={"passed": True, "precision": EVIL, "rows": [row(EVIL, 1e-9, EVIL)], "seed": EVIL, "notes": [EVIL]},
    )
    model = onnx.load_from_string(made.graph.model)
    model.graph.node[0].name = EVIL
    model.graph.node[1].op_type = EVIL
    model.graph.node[0].attribute.append(onnx.helper.make_attribute(EVIL, EVIL))
    made = replace(made, graph=PortableGraph(model.SerializeToString()))
    photo = Photo(EVIL, PNG, {EVIL: [Answer(EVIL, 0.5)], "b": [Answer("x", 0.5)]}, EVIL)
    html = engine_page(made, title=EVIL, lead=EVIL, photos=[photo], latencies=[Latency(EVIL, EVIL, 1.0)])
    parsed = Balanced(html)
    assert parsed.tags.count("script") == 1
    assert all(value.startswith("data:") for value in parsed.fetched)


def test_the_template_s_own_marks_in_a_model_are_not_filled_in() -> None:
    html = engine_page(engine(name="TITLE /*STYLE*/ <!--BODY-->"))
    assert html.count("<main>") == html.count("</main>") == 1
    Balanced(html)


def test_a_thumbnail_that_is_no_image() -> None:
    with pytest.raises(ConfigError, match="photo 'x': thumbnail is no JPEG"):
        engine_page(engine(), photos=[Photo("x", b"<svg>", {})])


def test_it_is_written_where_asked(tmp_path: Path) -> None:
    path = write_page(tmp_path / "page.html", engine(), title="T")
    assert "<title>T</title>" in path.read_text(encoding="utf-8")


def test_a_pass_that_found_work_once_is_not_called_idle() -> None:
    records = [{"name": name, "changed": changed} for name, changed in (("A", 0), ("A", 2), ("B", 0), ("B", 0))]
    page = sections.build({"stages": [], "passes": records, "build": {}})
    assert "<li>A <b>2</b></li>" in page
    assert "Found nothing to change: B." in page
