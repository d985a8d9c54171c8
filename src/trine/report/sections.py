"""The page's sections about the engine: one function each, from ``inspect_engine``'s data to HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trine.engine.inspect_cuda import tuned_bucket, where_timed
from trine.report.charts import error_scale, launch_bars, skyline, stage_strip
from trine.report.markup import count, exponent, family, shape_text, size, table, text

__all__ = ["build", "evidence", "gpus", "interface", "layers", "network", "provenance", "tactics", "tensorrt"]

Data = Mapping[str, Any]


def interface(data: Data) -> str:
    """Inputs and outputs, with the range of shapes that the engine takes."""
    rows = []
    for role in ("inputs", "outputs"):
        for info in data[role]:
            profile = info.get("profile", {})
            rows.append(
                (
                    role[:-1],
                    f"<b>{text(info['name'])}</b>",
                    f"<code>{text(info['dtype'])}</code>",
                    text(shape_text(info["shape"])),
                    *(text(shape_text(profile.get(which))) for which in ("min", "opt", "max")),
                )
            )
    return table(("", "name", "dtype", "shape", "smallest", "tuned for", "largest"), rows)


def network(data: Data) -> str:
    """The skyline of all layers, and each kind's share."""
    all_layers: Sequence[Data] = data["layers"]
    total_work = data["macs"] or 1
    total_weights = sum(layer["weight_bytes"] for layer in all_layers) or 1
    totals: dict[str, list[int]] = {}
    for layer in all_layers:
        entry = totals.setdefault(family(layer["op"]), [0, 0, 0])
        entry[0] += 1
        entry[1] += layer["macs"] or 0
        entry[2] += layer["weight_bytes"]
    kinds = "".join(
        f'<li class="{name}"><i></i><span>{name}</span><b>{number}</b>'
        f"<small>{_share(work, total_work)} of work, {_share(weights, total_weights)} of weights</small></li>"
        for name, (number, work, weights) in sorted(totals.items(), key=lambda item: -item[1][1] * 10**6 - item[1][0])
    )
    operators = ", ".join(f"{number} {text(op)}" for op, number in data["operators"].items())
    return (
        f'<figure class="chart">{skyline(all_layers)}<figcaption><span>first layer</span>'
        "<span>above the line: multiply-adds; below: weights (square-root scales)</span>"
        f'<span>last layer</span></figcaption></figure><ul class="kinds">{kinds}</ul>'
        f'<p class="soft">{operators}</p>'
    )


def _share(part: int, whole: int) -> str:
    return "none" if not part else "&lt;1%" if part < whole / 100 else f"{part / whole:.0%}"


def tactics(data: Data) -> str:
    """Every way that the builder tried, its time, and why the others were refused."""
    entries: Sequence[Data] = data["tactics"]
    if not entries:
        return '<p class="soft">The engine records no tactics.</p>'
    slowest = max((float(t["latency_ms"]) for t in entries if t.get("latency_ms")), default=1.0)
    rows = []
    for tactic in entries:
        chosen, latency = bool(tactic.get("chosen")), tactic.get("latency_ms")
        name = text(f"{tactic['name']} {tactic.get('precision', '')}".strip())
        options = ", ".join(f"{text(k)} {text(v)}" for k, v in (tactic.get("options") or {}).items())
        bar = (
            f'<div class="bar"><i style="width:{100 * float(latency) / slowest:.1f}%"></i></div>'
            f'<span class="figure">{float(latency):.3f} ms</span>'
            if latency
            else '<div class="bar none"></div><span class="figure">not timed</span>'
        )
        state = "chosen" if chosen else "built" if tactic.get("built_only") else "refused"
        reasons = "".join(f"<li>{text(reason)}</li>" for reason in tactic.get("reasons") or ())
        rows.append(
            f'<li class="{"chosen" if chosen else "refused"}"><div class="who"><b>{name}</b>'
            f'<span class="chip">{state}</span><small>{options}</small></div>{bar}'
            + (f'<ul class="reasons">{reasons}</ul>' if reasons else "")
            + "</li>"
        )
    return f'<ul class="tactics">{"".join(rows)}</ul>'


def gpus(data: Data) -> str:
    """For each CUDA plan its buckets, and the launches of the tuned one."""
    parts = []
    for plan in data["cuda"]:
        tuned = tuned_bucket(data, plan)
        rows = [
            (
                str(bucket["rows"]),
                str(bucket["launches"]),
                size(bucket["arena_bytes"]),
                "" if bucket["latency_us"] is None else f"{bucket['latency_us']:.1f}",
                f"{bucket['floor_us']:.1f}",
            )
            for bucket in plan["buckets"]
        ]
        parts.append(
            f"<p><b>{text(plan['target'])}</b> in {text(plan['precision'])}: {plan['kernels']} kernels, "
            f"{size(plan['kernel_bytes'])}; {text(where_timed(plan))}"
            f'.</p><figure class="chart">{launch_bars(tuned["groups"])}<figcaption><span>first launch</span>'
            f"<span>{tuned['rows']} rows: time of each group of launches, and the part that no kernel could save</span>"
            "<span>last launch</span></figcaption></figure>"
            + table(("rows", "launches", "arena", "&micro;s, sum", "floor &micro;s"), rows, (0, 1, 2, 3, 4))
            + _on_cpu(plan)
        )
    return "".join(parts)


def _on_cpu(plan: Data) -> str:
    """What of a CUDA plan the CPU computes, and why."""
    if not plan["cpu_parts"]:
        return ""
    steps = max(bucket["cpu_steps"] for bucket in plan["buckets"])
    rows = [
        (str(number), text(node["op"]), text(node["name"]), text(node["reason"]))
        for number, part in enumerate(plan["cpu_parts"])
        for node in part["nodes"]
    ]
    return (
        f'<p class="warn">{len(rows)} operators have no kernels and run on the CPU, in {steps} '
        f"step{'' if steps == 1 else 's'} a call, each of which waits for the GPU and copies.</p>"
        + table(("part", "operator", "node", "why"), rows, (0,))
    )


def tensorrt(data: Data) -> str:
    """For TensorRT's plan the layers that it says it has, and the nodes that they come from."""
    parts = []
    for plan in data["tensorrt"]:
        rows = [
            (
                str(index),
                text(layer["kind"]),
                f'<span class="name">{text(layer["name"])}</span>',
                "<br>".join(text(tensor) for tensor in layer["outputs"]),
                text(", ".join(layer["nodes"])),
            )
            for index, layer in enumerate(plan["layers"])
        ]
        target = f", for {text(plan['target'])}" if plan["target"] else ""
        parts.append(
            f"<p>Built by <b>{text(plan['package'])} {text(plan['version'])}</b> in {text(plan['precision'])}{target}: "
            f"{len(plan['layers'])} layers, {size(plan['plan_bytes'])}.</p>"
            + table(("", "kind", "name", "gives", "nodes that it comes from"), rows, (0,))
        )
    return "".join(parts)


def build(data: Data) -> str:
    """How long each stage took, and what each pass changed."""
    parts = [stage_strip(data["stages"])] if data["stages"] else []
    changed = [entry for entry in data["passes"] if entry.get("changed")]
    busy = {entry["name"] for entry in changed}  # some run twice, and find work only once
    idle = [text(name) for name in dict.fromkeys(e["name"] for e in data["passes"]) if name not in busy]
    before, after = data["build"].get("nodes_before"), data["build"].get("nodes_after")
    if before is not None and after is not None:
        parts.append(f"<p>Passes took the graph from <b>{text(before)}</b> nodes to <b>{text(after)}</b>.</p>")
    if changed:
        listed = "".join(f"<li>{text(entry['name'])} <b>{text(entry['changed'])}</b></li>" for entry in changed)
        parts.append(
            f'<p class="soft">Passes in order, and how many changes each made:</p><ol class="passes">{listed}</ol>'
        )
    if idle:
        parts.append(f'<p class="soft">Found nothing to change: {", ".join(idle)}.</p>')
    return "".join(parts)


def evidence(data: Data) -> str:
    """The comparison with the source that the engine carries."""
    report = data["evidence"]
    if report is None:
        return '<p class="warn">Built with verification off: nothing is known about how right its answers are.</p>'
    rows = []
    for row in report.get("rows", ()):
        metrics = row.get("metrics") or {}
        top1 = metrics.get("top1_agreement")
        problem = row.get("problem")
        rows.append(
            (
                text(row["case"]),
                text(row["output"]),
                text(shape_text(row["shape"])),
                error_scale(metrics.get("relative_error"), row["tolerance"]),
                exponent(metrics.get("relative_error")),
                exponent(row["tolerance"]),
                exponent(metrics.get("max_abs_error")),
                "&ndash;" if top1 is None else f"{float(top1):.0%}",
                f'<span class="bad">{text(problem)}</span>' if problem else '<span class="ok">within</span>',
            )
        )
    headings = ("case", "output", "shape", "1e-9 to 1", "rel. error", "allowed", "max abs", "top-1", "")
    notes = [text(note) for note in report.get("notes", ())]
    independence = report.get("row_independence")
    if independence:
        notes.insert(
            0,
            f"Answers of a row beside other rows change by at most {exponent(independence['error'])}."
            if independence["source_independent"]
            else "The source itself mixes the rows of a batch.",
        )
    listed = "".join(f"<li>{note}</li>" for note in notes)
    return table(headings, rows, numeric=(4, 5, 6, 7)) + (f'<ul class="soft">{listed}</ul>' if listed else "")


def layers(data: Data) -> str:
    """Every layer, searchable."""
    rows = []
    for layer in data["layers"]:
        outputs = layer["outputs"]
        first = outputs[0] if outputs else {"dtype": "", "shape": None}
        takes = ", ".join(
            shape_text(tensor["shape"]) or tensor["name"] for tensor in layer["inputs"] if tensor["kind"] != "weight"
        )
        attributes = " ".join(
            f"{key}={_value(value)}" for key, value in layer["attributes"].items() if not _is_default(key, value)
        )
        rows.append(
            (
                str(layer["index"]),
                f'<span class="op {family(layer["op"])}"><i></i>{text(layer["op"])}</span>',
                f'<span class="name">{text(layer["name"])}</span><small>{text(attributes)}</small>',
                text(takes),
                text(shape_text(first["shape"])),
                f"<code>{text(first['dtype'])}</code>",
                count(layer["parameters"]) if layer["parameters"] else "",
                count(layer["macs"]) if layer["macs"] else "",
            )
        )
    headings = ("", "operator", "name", "takes", "gives", "dtype", "parameters", "multiply-adds")
    return (
        '<label class="filter">Show layers with <input type="search" placeholder="Conv, 56&times;56, layer1" '
        f'data-filter="layers"><output></output></label><div id="layers">{table(headings, rows, (0, 6, 7))}</div>'
    )


def _is_default(key: str, value: Any) -> bool:
    """Whether an attribute only says what holds without it."""
    if key in ("group", "strides", "dilations"):
        return value == 1 or (isinstance(value, list) and set(value) == {1})
    if key == "pads":
        return isinstance(value, list) and not any(value)
    return (key, value) in (("auto_pad", "NOTSET"), ("ceil_mode", 0), ("storage_order", 0), ("allowzero", 0))


def _value(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ",".join(map(str, value)) + "]"
    shown = str(value)
    return shown if len(shown) <= 60 else shown[:60] + "…"


def provenance(data: Data) -> str:
    """Where it came from: source, time, versions, sizes, threads, CPU."""
    sizes = data["sizes"]
    entries: list[tuple[str, Any]] = [
        ("source", data["source"]),
        ("built", data["created"]),
        ("on", data["build"].get("cpu", "")),
        ("threads", data["build"].get("threads") or "all"),
        ("graph", size(sizes["graph_bytes"])),
        ("weights", f"{size(sizes['weight_bytes'])} in {sizes['weights']} tensors"),
        *((name, size(length)) for name, length in sizes["plan_bytes"].items()),
        ("opsets", ", ".join(f"{domain} {version}" for domain, version in data["opsets"].items())),
        ("versions", ", ".join(f"{package} {version}" for package, version in data["versions"].items())),
    ]
    listed = "".join(
        f"<dt>{text(name)}</dt><dd>{text(value)}</dd>" for name, value in entries if value not in ("", None)
    )
    return f"<dl>{listed}</dl>"
