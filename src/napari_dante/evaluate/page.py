"""A lesson on one page of HTML that needs no other file. Torch-free."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable
from html import escape

from napari_dante.evaluate.charts import curve_chart, strip_chart
from napari_dante.evaluate.colours import GREEN, ORANGE, RED
from napari_dante.evaluate.report import ExamReport
from napari_dante.evaluate.run_report import Picture, RunReport

__all__ = ["WITHOUT_PICTURES", "WITH_PICTURES", "page"]

WITH_PICTURES = "With pictures of the image: this file holds patient data."
WITHOUT_PICTURES = "Without pictures: nothing in this file shows the patient."

_STYLE = """
@page { size: A4; margin: 14mm }
body { font: 10.5pt/1.4 system-ui, sans-serif; color: #222; background: #fff;
       max-width: 180mm; margin: 8mm auto; padding: 0 4mm }
h1 { font-size: 16pt; margin: 0 } h2 { font-size: 11.5pt; margin: 5mm 0 1mm }
p { margin: 1mm 0 } .faint { color: #555; font-size: 9.5pt }
table { border-collapse: collapse; width: 100% }
th, td { padding: 1mm 2mm; text-align: right; border-bottom: .3mm solid #ddd }
th:first-child, td:first-child { text-align: left }
svg { width: 100%; height: auto; display: block }
section { break-inside: avoid } figure { margin: 0 0 3mm; display: flex; gap: 3mm }
figure div { flex: 1 } img { width: 100%; display: block }
""".strip()


def page(report: RunReport) -> str:
    """Return a report as HTML, to be read on a screen or printed on A4."""
    parts = [
        f"<h1>Lesson of {escape(report.date)}: {escape(report.model)}</h1>",
        f'<p class="faint">napari-dante {escape(report.software)}. '
        f"{WITH_PICTURES if report.pictures else WITHOUT_PICTURES} "
        "Research software, not for diagnosis.</p>",
        _verdict(report.exam),
        _section("What was taught", _taught(report)),
        _section("Before → after on the exam slices", _table(report.exam)),
        _section("Earlier cases", _earlier(report.exam)),
        _section("Dice of each corrected slice", _strip(report)),
        _section("Learning curve", curve_chart(report.curve), _CURVE),
        _section("Exam slices", "".join(map(_figure, report.pictures)), _OUTLINES),
    ]
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        f"<title>Lesson: {escape(report.model)}</title><style>{_STYLE}</style></head>"
        f"<body>{''.join(parts)}</body></html>\n"
    )


_CURVE = (
    "Bold: mean Dice on the exam slices. Dashed: the old model, the line to beat. "
    "Thin: the error of learning, on a scale of its own."
)
_OUTLINES = "Left the old model, right the new one (orange); white: what the person marked."


def _section(title: str, content: str, below: str = "") -> str:
    if not content:
        return ""
    note = f'<p class="faint">{below}</p>' if below else ""
    return f"<section><h2>{title}</h2>{content}{note}</section>"


def _verdict(exam: ExamReport | None) -> str:
    if exam is None:
        return "<p><b>Not examined</b>: no slice could be set aside.</p>"
    colour = {"better": GREEN, "worse": RED}.get(exam.verdict, ORANGE)
    return f'<p style="color:{colour}"><b>{escape(exam.sentence)}</b></p>'


def _taught(report: RunReport) -> str:
    names = ", ".join(report.structures)
    examined = report.exam.exam if report.exam is not None else ()
    return (
        f"<p>{escape(report.method)}</p><p>Structures: {escape(names)}. "
        f"Learned from {report.view} slices {_numbers(report.learned)}; "
        f"examined on {_numbers(examined)}. Slices count from 0.</p>"
    )


def _table(exam: ExamReport | None) -> str:
    if exam is None:
        return ""
    heads = (
        *("Structure", "Dice", "change, 95 %", "HD95, mm"),
        *(f"NSD at {exam.tolerance:g} mm", "slices", "verdict"),
    )
    rows = (_row(exam, label) for label in exam.labels)
    return _html_table(heads, rows)


def _row(exam: ExamReport, label: str) -> list[str]:
    result = exam.of_label(label)
    interval = "-" if result.interval is None else "{:+.2f} to {:+.2f}".format(*result.interval)
    return [
        label,
        _change(exam, label, "dice", ".2f"),
        interval,
        _change(exam, label, "hd95", ".1f"),
        _change(exam, label, "nsd", ".2f"),
        str(result.n),
        result.verdict,
    ]


def _change(exam: ExamReport, label: str, metric: str, form: str) -> str:
    pair = [exam.mean(when, metric, label=label) for when in ("before", "after")]  # type: ignore[arg-type]
    return " → ".join("-" if value is None else format(value, form) for value in pair)


def _earlier(exam: ExamReport | None) -> str:
    if exam is None or not exam.earlier:
        return ""
    rows = ([one.label, f"{one.before:.2f} → {one.after:.2f}"] for one in exam.earlier)
    return _html_table(("Structure", "Dice on slices that were not rehearsed"), rows)


def _strip(report: RunReport) -> str:
    if not report.slices:
        return ""
    return strip_chart(report.slices) + (
        '<p class="faint">Mean over the structures; framed: exam slices, '
        "which were never learned from.</p>"
    )


def _figure(picture: Picture) -> str:
    images = "".join(
        f'<div><img alt="Slice {picture.slice}, {when}" '
        f'src="data:image/png;base64,{b64encode(data).decode()}">'
        f'<p class="faint">slice {picture.slice}, {when}</p></div>'
        for when, data in (("before", picture.before), ("after", picture.after))
    )
    return f"<figure>{images}</figure>"


def _html_table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = "".join(f"<th>{escape(one)}</th>" for one in heads)
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _numbers(slices: Iterable[int]) -> str:
    return ", ".join(map(str, slices)) or "none"
