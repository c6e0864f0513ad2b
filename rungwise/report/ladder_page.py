"""A check as one HTML page that opens anywhere, a phone included: no network; without script all but hover works.

Every number of the page is a rounding of a value in the JSON that it carries in `<script id="data">`; `data-k` says
of which.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from rungwise.artifact import write_text
from rungwise.ladder.advice import Recommendation
from rungwise.ladder.compare import Report, Told
from rungwise.ladder.rungs import GAP_STEPS, KINDS, Kind, format_kbps
from rungwise.report.ladder_plots import agreement_plot, curve_plots, height_colors, legend
from rungwise.report.ladder_text import (
    INTERVAL_NOTE,
    count_faults,
    crossover_lines,
    flags_text,
    settings_lines,
    short_name,
    to_csv,
    to_json,
    to_text,
    verdict_line,
)
from rungwise.report.page import embed

_SHOWN = 12  # findings in the open; the curves should not be a long way down

_CSS = """
:root{--ink:#14181f;--soft:#535e6c;--rule:#dde2e8;--wash:#f5f7f9}*{box-sizing:border-box}
body{margin:0;background:#fff;color:var(--ink);font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,
"Liberation Sans",Arial,sans-serif}
main{max-width:1160px;margin:0 auto;padding:40px 24px 64px}
h1{font-size:34px;line-height:1.15;letter-spacing:-.02em;margin:2px 0 6px}
h2{font-size:20px;letter-spacing:-.01em;margin:48px 0 6px}h3{font-size:16px;margin:22px 0 4px}
p{margin:0 0 14px;color:var(--soft);max-width:74ch}.lead{font-size:17px;margin:0 0 22px}
.kicker{font-size:14px;margin:0;overflow-wrap:anywhere}b{font-weight:600}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:14px}
.tile{background:var(--wash);border-radius:8px;padding:12px 16px 14px}
.tile b{display:block;font-size:30px;line-height:1.25;letter-spacing:-.02em}.tile>span{font-size:14px;color:var(--soft)}
.found{list-style:none;margin:10px 0 0;padding:0}
.found li{display:grid;grid-template-columns:38px 1fr;gap:0 10px;padding:9px 0;border-bottom:1px solid var(--rule)}
.found a{font-weight:600;color:var(--ink);background:var(--wash);border-radius:6px;text-align:center;height:30px;
line-height:30px;text-decoration:none}.found em{font-style:normal;font-weight:600}.found small{display:block}
summary{padding:10px 0;cursor:pointer;font-weight:600}
small{color:var(--soft);font-size:13px}td small,tbody th small{display:block;overflow-wrap:anywhere}
.two{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,330px),1fr));gap:8px 24px}
.two>*,.pair>*{min-width:0}.pair{display:grid;gap:8px 24px}.rung{white-space:nowrap}
figure{margin:0}figcaption{font-weight:600;font-size:15px;margin:10px 0 0}
figcaption small{font-weight:400}
svg.plot{display:block;width:100%;height:auto;touch-action:pan-y}
svg text{font-size:13px;fill:var(--soft);font-family:inherit}
svg .no{font-weight:700;fill:var(--ink);paint-order:stroke;stroke:#fff;stroke-width:3px}.rule{stroke:var(--rule)}
svg .lit{stroke:#14181f;stroke-width:1.5}svg.n{max-width:480px}svg.w{display:none}
.legend{display:flex;flex-wrap:wrap;gap:4px 18px;font-size:14px;margin:8px 0 6px;padding:0;list-style:none}
.legend li{display:flex;align-items:center;gap:6px}.legend svg{width:28px;height:18px;flex:none}
.slim{max-width:620px}.scroll{overflow-x:auto;margin:6px 0 12px}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;width:100%;
font-size:15px}th,td{padding:7px 14px 7px 0;border-bottom:1px solid var(--rule);text-align:left;vertical-align:baseline}
thead th{border-bottom:2px solid var(--ink);font-weight:600}tbody th{font-weight:400}.r{text-align:right}
tr:target{background:#fff4d6}.dot{display:inline-block;width:9px;height:9px;border-radius:5px;margin-right:7px}
.tag{font-weight:600;white-space:nowrap}.add td,.add th{background:var(--wash)}
.notes{margin:0;padding-left:18px;color:var(--soft);font-size:14px}.notes li{overflow-wrap:anywhere}
#tip{position:absolute;z-index:2;background:#14181f;color:#fff;border-radius:8px;padding:9px 12px;font-size:14px;
line-height:1.4;pointer-events:none;max-width:300px;overflow-wrap:anywhere}
#tip b{display:block}#tip[hidden]{display:none}
@media(min-width:900px){.pair{grid-template-columns:1fr 1fr}svg.n{display:none}svg.w{display:block}}
@media(max-width:560px){main{padding:22px 16px 48px}h1{font-size:28px}h2{font-size:19px;margin-top:38px}
.lead{font-size:16px}.tiles{grid-template-columns:1fr 1fr;gap:10px}.tile{padding:10px 12px 12px}.tile b{font-size:24px}
.tile>span{font-size:13px}th,td{padding-right:9px}table{font-size:14px}}
"""

# Shows the rung nearest to a pointer or finger, from the JSON that the page carries.
_JS = """
(()=>{const data=JSON.parse(document.getElementById("data").textContent),tip=document.getElementById("tip");
let lit=null;const kbps=v=>v<99.95?v.toFixed(1):v.toFixed(0);
const words=JSON.parse(tip.dataset.words);
function hide(){tip.hidden=true;if(lit){lit.classList.remove("lit");lit=null}}
function line(text,bold){const e=document.createElement(bold?"b":"span");e.textContent=text;tip.append(e);
if(!bold)tip.append(document.createElement("br"))}
function show(svg,event){const box=svg.getBoundingClientRect(),k=box.width/svg.viewBox.baseVal.width;
let best=null,near=36;for(const p of svg.querySelectorAll(".pt")){
const d=Math.hypot(box.left+p.dataset.x*k-event.clientX,box.top+p.dataset.y*k-event.clientY);if(d<near){near=d;best=p}}
if(!best)return hide();if(best!==lit){if(lit)lit.classList.remove("lit");lit=best;best.classList.add("lit")}
const row=+best.dataset.row,rung=data.rungs[row];tip.replaceChildren();line(rung.name,true);
line(rung.codec+" "+(rung.width?rung.width+"x":"")+rung.height+(rung.width?"":"p")+", "+
kbps(rung.bitrate_kbps)+" kbps");
for(const told of data.told){const v=told.check.verdicts[row];
line((data.told.length>1||told.check.metric.source!="column"?told.check.metric.name:"quality")+" "+v.quality.toFixed(1)+
(v.low===null?"":" ["+v.low.toFixed(1)+", "+v.high.toFixed(1)+"]")+(v.flags.length?": "+words[v.flags[0]]:""))}
const v=data.told[+best.dataset.metric].check.verdicts[row];
line(v.on_hull?"on the hull":v.below_hull.toFixed(1)+" below the hull, "+v.wasted_percent.toFixed(0)+" % of its bits");
tip.lastChild.remove();tip.hidden=false;const x=box.left+best.dataset.x*k,y=box.top+best.dataset.y*k,
wide=document.documentElement.clientWidth;
tip.style.left=Math.max(8,Math.min(x-tip.offsetWidth/2,wide-tip.offsetWidth-8))+scrollX+"px";
const above=y-tip.offsetHeight-16;tip.style.top=(above<4?y+18:above)+scrollY+"px"}
for(const svg of document.querySelectorAll("svg.plot")){for(const t of svg.querySelectorAll(".pt title"))t.remove();
svg.addEventListener("pointermove",e=>show(svg,e));svg.addEventListener("pointerdown",e=>show(svg,e));
svg.addEventListener("pointerleave",e=>{if(e.pointerType==="mouse")hide()})}
document.addEventListener("pointerdown",e=>{if(!e.target.closest("svg.plot"))hide()})})();
"""


def make_page(report: Report) -> str:
    """The page, self-contained."""
    embedded = embed(report.model_dump_json())
    words = html.escape("{" + ",".join(f'"{kind}":"{text}"' for kind, text in KINDS.items()) + "}")
    sections = [
        _head(report),
        _findings(report),
        _curves(report),
        _recommended(report),
        _savings(report),
        _agreement(report) if report.agreement else "",
        _rungs(report),
        _notes(report),
    ]
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width,initial-scale=1'><link rel='icon' href='data:,'>"
        f"<title>Ladder check: {_text(report.source)}</title><style>{_CSS}</style></head><body><main>"
        + "\n".join(section for section in sections if section)
        + f"</main><div id='tip' role='status' data-words='{words}' hidden></div>"
        + f'<script type="application/json" id="data">{embedded}</script><script>{_JS}</script></body></html>\n'
    )


def _text(value: object) -> str:
    return html.escape(str(value))


def _number(value: float | None, key: str, decimals: int = 1, sign: str = "") -> str:
    """A value of the JSON, rounded; `key` is its place there."""
    if value is None:
        return "&ndash;"
    return f"<span data-k='{key}'>{value:{sign}.{decimals}f}</span>"


def _kbps(value: float, key: str) -> str:
    return f"<span data-k='{key}'>{format_kbps(value)}</span>"


def _table(head: Sequence[str], rows: Iterable[tuple[str, Sequence[str]]]) -> str:
    """Cells are HTML; a row comes with its attributes. All columns but the first and the last are numbers."""

    def cells(row: Sequence[str], tag: str) -> str:
        last = len(row) - 1
        return "".join(
            f"<{'th' if not i else tag}{' class=r' if 0 < i < last else ''}>{cell}</{'th' if not i else tag}>"
            for i, cell in enumerate(row)
        )

    body = "".join(f"<tr{attributes}>{cells(row, 'td')}</tr>" for attributes, row in rows)
    return f"<div class='scroll'><table><thead><tr>{cells(head, 'th')}</tr></thead><tbody>{body}</tbody></table></div>"


def _head(report: Report) -> str:
    first = report.told[0].check
    shown = f", shown at {report.display_height} lines" if report.display_height else ""
    codecs = ", ".join(codec.codec for codec in first.codecs)
    lead = f"<b>{len(report.rungs)} rungs</b> ({_text(codecs)}), judged by <b>{_text(first.metric.name)}</b>{shown}."
    for told in report.told[1:]:
        lead += f" By <b>{_text(told.check.metric.name)}</b>: {_lower(verdict_line(report, told))}."
    if report.failures:
        lead += f" <b>{len(report.failures)} left out</b>, see below."
    tiles = [(f"{number}", KINDS[kind]) for kind, number in count_faults(report.told[0]).items()]
    gaps = sum(len(codec.gaps) for codec in first.codecs)
    tiles += [(f"{gaps}", f"gap{'s' * (gaps > 1)} wider than {GAP_STEPS:g} steps")] if gaps else []
    quality = [verdict.quality for verdict in first.verdicts]
    low, high = quality.index(min(quality)), quality.index(max(quality))
    tiles += [(_number(quality[low], f"told.0.check.verdicts.{low}.quality"), "quality floor")]
    tiles += [(_number(quality[high], f"told.0.check.verdicts.{high}.quality"), "quality ceiling")]
    if report.agreement:
        bitrate = report.agreement.srcc_log_bitrate
        baseline = "" if bitrate is None else f" (log-bitrate {bitrate:.3f})"
        tiles.append((_number(report.agreement.srcc, "agreement.srcc", 3), f"SRCC with the truth{baseline}"))
    cells = "".join(f"<div class='tile'><b>{number}</b><span>{_text(label)}</span></div>" for number, label in tiles)
    return (
        f"<p class='kicker'>Ladder check &middot; {_text(report.source)}</p>"
        f"<h1 id='verdict'>{_text(verdict_line(report, report.told[0]))}</h1>"
        f"<p class='lead'>{lead}</p><div class='tiles'>{cells}</div>"
    )


def _lower(text: str) -> str:
    return text[0].lower() + text[1:]


def _name(told: Told) -> str:
    return _text(told.check.metric.name)


def _findings(report: Report) -> str:
    columns = []
    for told in report.told:
        heading = f"<h3>By {_name(told)}</h3>" if len(report.told) > 1 else ""
        items = [
            f"<li><a href='#r{finding.rungs[0]}'>{finding.number}</a>"
            f"<div><em>{_text(KINDS[finding.kind].capitalize())}.</em> {_text(finding.text)}"
            f"<small>{_text(report.rungs[finding.rungs[0]].name)}</small></div></li>"
            for finding in told.check.findings
        ]
        shown = f"<ol class=found>{''.join(items[:_SHOWN])}</ol>" if items else "<p>Nothing.</p>"
        if items[_SHOWN:]:
            rest = "".join(items[_SHOWN:])
            shown += f"<details><summary>{len(items) - _SHOWN} more</summary><ol class=found>{rest}</ol></details>"
        columns.append(f"<div>{heading}{shown}</div>")
    return f"<h2>Found</h2><div class='two'>{''.join(columns)}</div>"


def _curves(report: Report) -> str:
    num_codecs, num_metrics = len(report.told[0].check.codecs), len(report.told)
    columns = num_metrics if num_metrics > 1 else min(num_codecs, 3)
    figures = []
    for codec in range(num_codecs):
        for metric, told in enumerate(report.told):
            by = f" <small>by {_name(told)}</small>" if num_metrics > 1 else ""
            name = _text(told.check.codecs[codec].codec)
            plots = curve_plots(report, metric, codec, columns)
            figures.append(
                f"<figure data-codec='{codec}' data-metric='{metric}'>"
                f"<figcaption>{name}{by}</figcaption>{plots}</figure>"
            )
    css = "pair" if columns == 2 else "two"
    said = "Quality upwards; point at a mark, or touch it, for its values. A height's line runs along its own hull."
    return f"<h2>Quality against bitrate</h2><p>{said}</p>{legend(report)}<div class='{css}'>{''.join(figures)}</div>"


def _rung(report: Report, row: int, *, name: bool = True) -> str:
    rung = report.rungs[row]
    dot = f"<span class='dot' style='background:{height_colors(report)[rung.height]}'></span>"
    small = f"<small>{_text(rung.name)}</small>" if name else ""
    kbps = _kbps(rung.bitrate_kbps, f"rungs.{row}.bitrate_kbps")
    return f"<span class='rung'>{dot}{rung.height}p &middot; {kbps} kbps</span>{small}"


def _recommended(report: Report) -> str:
    wanted = f"{report.count} rungs" if report.count else "as many rungs as stay one step apart"
    cap = f", none above {format_kbps(report.cap_kbps)} kbps" if report.cap_kbps else ""
    panels = "".join(_advice(report, place, advice) for place, advice in enumerate(report.told[0].recommendations))
    other = ""
    for told in report.told[1:]:
        differ = [
            _text(mine.codec)
            for mine, theirs in zip(report.told[0].recommendations, told.recommendations, strict=True)
            if mine.keep != theirs.keep
        ]
        kept = f"another set of {', '.join(differ)} would be kept" if differ else "the same rungs are kept"
        other += f"<p>By {_name(told)} {kept}; the JSON has it.</p>"
    return (
        f"<h2>Recommended</h2><p>Wanted: {wanted}{cap}. Rule: {_text(report.objective)}.</p>{other}"
        f"<div class='two'>{panels}</div>"
    )


def _advice(report: Report, place: int, advice: Recommendation) -> str:
    verdicts = report.told[0].check.verdicts
    lines: list[tuple[float, float, str, str, str]] = []  # bitrate, quality, attributes, what, action
    for row in advice.keep:
        quality = verdicts[row].quality
        key = f"told.0.check.verdicts.{row}.quality"
        lines.append((report.rungs[row].bitrate_kbps, quality, "", _rung(report, row, name=False), key))
    for number, add in enumerate(advice.add):
        key = f"told.0.recommendations.{place}.add.{number}"
        dot = f"<span class='dot' style='background:{height_colors(report)[add.height]}'></span>"
        what = f"{dot}{add.height}p &middot; {_kbps(add.bitrate_kbps, f'{key}.bitrate_kbps')} kbps"
        lines.append((add.bitrate_kbps, add.quality, " class='add'", what, f"{key}.quality"))
    lines.sort(key=lambda line: line[:2])
    rows, before = [], None
    for _, quality, attributes, what, key in lines:
        rise = "" if before is None else f"{quality - before:+.1f}"
        before = quality
        action = "<span class='tag'>add</span>" if attributes else "keep"
        rows.append((attributes, [what, _number(quality, key), rise, action]))
    reasons = [drop.reason for drop in advice.drop]
    out = ", ".join(f"{reasons.count(reason)} {reason}" for reason in dict.fromkeys(reasons))
    said = [f"Leave out {len(reasons)}: {out}." if reasons else "Nothing to leave out."]
    said += [f"{advice.note[0].upper()}{advice.note[1:]}."] if advice.note else []
    said += [f"{line[0].upper()}{line[1:]}." for line in crossover_lines(report, place)]
    table = _table(["Rung", "Quality", "Rise", ""], rows) if rows else ""
    return f"<div><h3>{_text(advice.codec)}</h3>{table}<p>{_text(' '.join(said))}</p></div>"


def _savings(report: Report) -> str:
    if not report.told[0].savings:
        return ""
    rows = []
    for i, saving in enumerate(report.told[0].savings):
        cells = []
        for metric, told in enumerate(report.told):
            percent = told.savings[i].bd_rate_percent
            shown = _number(percent, f"told.{metric}.savings.{i}.bd_rate_percent", sign="+")
            cells.append(
                f"{shown} %" if percent is not None else f"<small>none: {_text(told.savings[i].reason)}</small>"
            )
        rows.append(("", [f"{_text(saving.codec)} against {_text(saving.anchor)}", *cells, ""]))
    head = ["BD-rate", *(f"by {_text(short_name(told.check.metric))}" for told in report.told), ""]
    said = "Bitrate at equal quality, over the sound rungs of each codec; negative saves."
    return f"<h2>One codec against another</h2><p>{said}</p><div class='slim'>{_table(head, rows)}</div>"


def _agreement(report: Report) -> str:
    agreement, (first, truth) = report.agreement, report.told
    assert agreement is not None
    tiles = [
        (_number(agreement.srcc, "agreement.srcc", 3), f"SRCC of {first.check.metric.name}"),
        (
            _number(agreement.srcc_log_bitrate, "agreement.srcc_log_bitrate", 3),
            "SRCC of log-bitrate, the trivial baseline",
        ),
        (_number(agreement.offset, "agreement.offset", 1, "+"), "points on average, above the truth"),
        (_number(agreement.scatter, "agreement.scatter"), "points of scatter round that"),
        (f"<span data-k='agreement.hull_both'>{agreement.hull_both}</span>", "rungs near the hull by both"),
        (
            f"<span data-k='agreement.hull_first_only'>{agreement.hull_first_only}</span> / "
            f"<span data-k='agreement.hull_truth_only'>{agreement.hull_truth_only}</span>",
            "by one alone / by the truth alone",
        ),
    ]
    cells = "".join(f"<div class='tile'><b>{number}</b><span>{_text(label)}</span></div>" for number, label in tiles)
    rows = [
        ("", [_rung(report, fault.rung), *(_fault(flags) for flags in (fault.by_first, fault.by_truth))])
        for fault in agreement.faults
        if fault.by_first != fault.by_truth
    ]
    head = ["Judged differently", *(f"by {_text(short_name(told.check.metric))}" for told in report.told)]
    differ = _table(head, rows).replace(" class=r", "") if rows else "<p>Both find the same faults.</p>"
    return (
        f"<h2>{_name(first)} against {_name(truth)}</h2><div class='tiles'>{cells}</div>"
        f"<div class='two'><figure><figcaption>{_name(first)} <small>upwards, one mark a rung; dashed: equal</small>"
        f"</figcaption>{agreement_plot(report)}</figure><div>{differ}</div></div>"
    )


def _fault(flags: Sequence[Kind]) -> str:
    return f"<span class='tag'>{_text(flags_text(flags))}</span>" if flags else "sound"


def _rungs(report: Report) -> str:
    several = len(report.told) > 1
    head = [
        "Rung",
        *(_text(short_name(t.check.metric)) if several else "Quality" for t in report.told),
        "Hull",
        "Fault",
    ]
    numbers = {finding.rungs[0]: finding.number for finding in report.told[0].check.findings}
    panels = []
    for codec in report.told[0].check.codecs:
        rows = []
        for row in codec.rungs:
            cells = [_rung(report, row)]
            for metric, told in enumerate(report.told):
                verdict, key = told.check.verdicts[row], f"told.{metric}.check.verdicts.{row}"
                cells.append(_number(verdict.quality, f"{key}.quality"))
                if verdict.low is not None:
                    low, high = _number(verdict.low, f"{key}.low"), _number(verdict.high, f"{key}.high")
                    cells[-1] += f"<small>{low} to {high}</small>"
            verdict = report.told[0].check.verdicts[row]
            below = _number(-verdict.below_hull, f"told.0.check.verdicts.{row}.below_hull").replace("-0.0", "0.0")
            cells.append("on" if verdict.on_hull else below)
            number = f"{numbers[row]} &middot; " if row in numbers else ""
            cells.append(f"<span class='tag'>{number}{_text(flags_text(verdict.flags))}</span>")
            rows.append((f" id='r{row}'", cells))
        panels.append(f"<div><h3>{_text(codec.codec)}</h3>{_table(head, rows)}</div>")
    return f"<h2>All rungs</h2><div class='{'pair' if several else 'two'}'>{''.join(panels)}</div>"


def _notes(report: Report) -> str:
    lines = [f"{told.check.metric.name}: {line}." for told in report.told for line in settings_lines(told.check.metric)]
    lines.append(
        "Out of order: some cheaper rung of the codec scores higher. Too close: less than a step above the last "
        "sound rung that stays, from the cheapest up. Gap: wider than two steps."
    )
    if any(verdict.low is not None for verdict in report.told[0].check.verdicts):
        lines.append(f"{INTERVAL_NOTE[0].upper()}{INTERVAL_NOTE[1:]}.")
    lines += [f"{note[0].upper()}{note[1:]}." for note in report.notes]
    lines += [f"Left out: {name}: {reason}" for name, reason in report.failures.items()]
    lines.append(f"Made by rungwise {report.rungwise}, ladder check.")
    return f"<h2>What this rests on</h2><ul class='notes'>{''.join(f'<li>{_text(line)}</li>' for line in lines)}</ul>"


def write_outputs(report: Report, out: Path) -> list[Path]:
    """check.json, check.csv, check.txt and check.html in `out`, each beside and renamed."""
    makers: dict[str, Callable[[Report], str]] = {
        "check.json": to_json,
        "check.csv": to_csv,
        "check.txt": to_text,
        "check.html": make_page,
    }
    for name, make in makers.items():
        write_text(out / name, make(report))
    return [out / name for name in makers]
