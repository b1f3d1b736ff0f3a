// What happened, how sure is that, what was done about it, what did it cost, and what should I do?

import { button, buttons, copy } from "./actions.js";
import { block, pen, repaint } from "./canvas.js";
import { h, put, say, when } from "./dom.js";
import { reader, stream } from "./feed.js";
import { incidentPath, logPath, runPath } from "./paths.js";
import { bytes, kind, moment, number, plural, severity, share, span, verdict, where } from "./words.js";

/** phase → [bucket whose colour it takes, what it is] */
const PHASES = {
  detect: ["detecting", "detect"], decide: ["hung", "decide"], stop: ["recovering", "stop"], wait: ["queued", "wait"], start: ["startup", "start"],
  restore: ["restore", "restore"], first_step: ["degraded", "first step"], caught_up: ["recomputed", "caught up"],
};

export function incident(root, route, scope) {
  const { run, incident: id } = route;
  const path = `/api/runs/${encodeURIComponent(run)}/incidents/${encodeURIComponent(id)}`;
  document.title = `${id} · ${run} · lastgood`;
  stream.open(run);
  const failed = h("p.notice.bad", { hidden: true });
  const crumb = h("p.crumb", null, h("a", { href: runPath(run) }, run), " / ", h("a", { href: runPath(run, "/incidents") }, "incidents"), ` / ${id}`);
  const steps = h("span.row.no-print");
  const title = h("h1", null, id);
  const badges = h("span.row");
  const acting = h("div.row.actions.no-print");
  const sentence = h("p.sentence", null, "…");
  const parts = Object.fromEntries(["verdict", "evidence", "phases", "done", "cost", "node", "notes", "judgement", "runbook"].map((name) => [name, h("div")]));
  const part = (name, heading) => h("section", { id: name }, h("h2", null, heading), parts[name]);
  put(root, h("div.row.wide", null, crumb, steps), h("div.row.wide", null, h("div.row", null, title, badges), acting), failed, sentence,
    part("phases", "From the fault to caught up"),
    h("div.two", null,
      h("div", null, part("verdict", "Verdict"), part("evidence", "Evidence"), part("done", "What lastgood did"), part("runbook", "Runbook")),
      h("div", null, part("cost", "Cost"), part("judgement", "Was this verdict right?"), part("notes", "Notes"), part("node", "Suspected node"))));
  function show(body) {
    failed.hidden = true;
    const one = body.incident;
    document.title = `${id}: ${kind(one.kind)} · ${run} · lastgood`;
    say(title, `${id}: ${body.title}`);
    when(badges, [body.severity, body.open, body.acknowledged, one.drill], () => put(badges, severity(body.severity), body.open ? verdict(null, body.acknowledged ? "acknowledged" : "open") : verdict(true, "over"), one.drill ? h("span.pill", null, `drill: ${one.drill}`) : null));
    say(sentence, body.sentence);
    when(acting, body.actions, () => put(acting, acts(body, run, id)));
    when(parts.verdict, [one, body.log, body.acknowledged], () => put(parts.verdict, judged(body, run)));
    when(parts.evidence, one.evidence, () => put(parts.evidence, h("ol.evidence", null, one.evidence.map((text) => h("li", null, text)))));
    when(parts.done, [one.actions, body.story], () => put(parts.done, story(body)));
    when(parts.phases, body.phases, () => put(parts.phases, phases(body.phases)));
    when(parts.cost, body.cost, () => put(parts.cost, cost(body.cost)));
    when(parts.node, [body.node, one.subject], () => put(parts.node, history(body.node)));
    when(parts.notes, [body.notes, body.actions], () => put(parts.notes, notes(body, run, id)));
    when(parts.judgement, [body.judgement, body.actions], () => put(parts.judgement, judgement(body, run, id)));
    when(parts.runbook, body.runbook, () => put(parts.runbook, runbook(body)));
  }
  const read = reader(scope, () => path, show, { least_ms: 300, fail: (error) => { failed.hidden = false; say(failed, error.message); } });
  const around = reader(scope, () => `/api/runs/${encodeURIComponent(run)}`, ({ incidents }) => {
    const n = incidents.findIndex((one) => one.id === id);
    const link = (one, way, text) => one && h("a", { href: incidentPath(run, one.id), "data-step": way }, text);
    when(steps, [incidents[n - 1]?.id, incidents[n + 1]?.id], () => put(steps, link(incidents[n - 1], -1, `← ${incidents[n - 1]?.id}`), " ", link(incidents[n + 1], 1, `${incidents[n + 1]?.id} →`)));
  }, { least_ms: 1000 });
  stream.on("run", (body, since) => { if (body.run === run && body.changed.some((each) => ["incidents", "summary", "timeline"].includes(each))) { read(since); around(); } }, scope);
  stream.on("reset", (_, since) => { read(since); around(); }, scope);
  scope.listen(window, "lastgood:acted", () => read());
  read();
  around();
  return {};
}

const subject = (body, run, id, more = {}) => ({ run, incident: id, sentence: body.sentence, ...more });
const of = (body, name, id) => body.actions.filter((one) => one.action === name).map((one) => ({ ...one, cli: one.cli.replace(/\bID\b/, id) }));

function acts(body, run, id) {
  const whole = body.actions.filter((one) => ["resume", "restart"].includes(one.action) && one.allowed);
  return [buttons([...of(body, "acknowledge", id), ...(body.open ? of(body, "resolve", id) : [])], subject(body, run, id)), buttons(whole, { run, sentence: body.sentence, nodes: body.incident.subject.node === null ? [] : [{ node: body.incident.subject.node, host: body.node?.host }] })];
}

function judged(body, run) {
  const one = body.incident;
  const rows = [
    ["Kind", kind(one.kind)], ["Where", where(one.subject)], ["Blame", kind(one.blame ?? "unknown")], ["Confidence", `${Math.round(100 * one.confidence)} %`],
    ["Began", moment(one.onset)], ["Noticed", [moment(one.detected), h("span.quiet", null, `, ${span(one.detected - one.onset)} after it began`)]],
    ["Over", one.resolved ? moment(one.resolved) : "not yet"], ["At step", number(one.step) + (one.onset_step === null ? "" : `, touched from step ${number(one.onset_step)} on`)],
    ["World", one.resumed_world ? `${one.world}, resumed as ${one.resumed_world}${one.resumed_from_step === null ? "" : ` from step ${number(one.resumed_from_step)}`}` : number(one.world)],
    ["Checkpoint", one.checkpoint], ["Answer", kind(one.response)],
    ["Log", body.log && [h("a", { href: logPath(run, body.log.id) }, `rank ${body.log.rank}, ${body.log.stream}`), ` (${bytes(body.log.bytes)})`]],
    ["Acknowledged", body.acknowledged && [body.acknowledged.by, " ", moment(body.acknowledged.at)]],
  ];
  return h("dl.facts.sheet", null, rows.filter(([, value]) => value).map(([name, value]) => [h("dt", null, name), h("dd", null, value)]));
}

function story(body) {
  const actions = body.incident.actions.length ? h("p.pad", null, body.incident.actions.map((text) => text[0].toUpperCase() + text.slice(1)).join(". "), ".") : h("p.pad", null, "Nothing had to be done: it was noted.");
  return [actions, h("ol.evidence", null, body.story.map((one) => h("li", null, moment(one.at), " ", one.text)))];
}

function phases(found) {
  if (!found.length) return h("p.quiet.sheet", null, "It ended no world, so there was nothing to recover.");
  const total = found.reduce((sum, one) => sum + one.seconds, 0);
  const bar = h("canvas", { role: "img", "aria-label": found.map((one) => `${kind(one.phase)} ${span(one.seconds)}`).join(", ") });
  const paint = () => {
    const wide = bar.clientWidth || 600;
    const context = pen(bar, wide, 34);
    let x = 0;
    for (const one of found) {
      const part = (one.seconds / (total || 1)) * wide;
      block(context, PHASES[one.phase]?.[0] ?? "queued", x, 0, Math.max(1, part - 1), 34);
      x += part;
    }
  };
  repaint(bar, paint);
  new ResizeObserver(paint).observe(bar);
  const items = found.map((one) => {
    const swatch = h("canvas.swatch", { "aria-hidden": "true" });
    swatch.style.width = "100%";
    const tint = () => block(pen(swatch, 200, 4), PHASES[one.phase]?.[0] ?? "queued", 0, 0, 200, 4);
    tint();
    repaint(swatch, tint);
    return h("li", null, swatch, h("span", null, PHASES[one.phase]?.[1] ?? kind(one.phase)), h("b", null, span(one.seconds)), h("span", null, share(total ? one.seconds / total : 0)));
  });
  return h("div.sheet", null, h("div.phases", null, bar), h("ol.phase-list", null, items), h("p.quiet.pad", null, `${span(total)} in all`));
}

function cost(one) {
  const rows = [["Steps to train again", number(one.steps_lost)], ["Wall clock", span(one.wall_s)], ["GPU-hours", number(one.gpu_hours)],
    ["Energy", one.energy_kwh === null ? "not read" : `${number(one.energy_kwh)} kWh`], ["Money", one.money ? `${number(one.money.amount)} ${one.money.currency}` : "no prices in the spec"]];
  return h("dl.facts.sheet", null, rows.map(([name, value]) => [h("dt", null, name), h("dd", null, value)]));
}

function history(node) {
  if (!node) return h("p.quiet.sheet", null, "The evidence names no node.");
  return h("div.sheet", null, h("p", null, h("b", null, node.host)), node.incidents.length
    ? [h("p.pad", null, `${plural(node.incidents.length, "incident")} named it before:`), h("ul.notes", null, node.incidents.slice(0, 10).map((one) => h("li", null, h("a", { href: incidentPath(one.run, one.id) }, `${one.id} of ${one.run}`), ` ${kind(one.kind)} `, moment(one.at))))]
    : h("p.pad.quiet", null, "No earlier incident named it."));
}

function notes(body, run, id) {
  return h("div.sheet", null, body.notes.length ? h("ul.notes", null, body.notes.map((one) => h("li", null, h("span.by", null, one.by, " ", moment(one.at)), one.text))) : h("p.quiet.pad", null, "No notes yet."),
    of(body, "note", id).map((one) => button(one, subject(body, run, id))));
}

function judgement(body, run, id) {
  const judge = of(body, "judge", id)[0];
  const said = body.judgement;
  return h("div.sheet", null,
    said ? h("p", null, verdict(said.right, said.right ? "right" : "wrong"), ` ${said.text} `, h("span.quiet", null, said.by, " ", moment(said.at))) : h("p.quiet", null, "Nobody said yet. Your answer counts in the detectors' precision."),
    judge ? h("div.row.pad", null, button(judge, subject(body, run, id, { right: true, text: "It was right" })), button(judge, subject(body, run, id, { right: false, text: "It was wrong" }))) : null);
}

/** The page of the runbook: a tree that can only be text, as the server made it. */
function runbook(body) {
  return h("div.runbook.sheet", null, body.runbook.filter((one, n) => n > 0 || one.level !== 1).map(blockOf), body.runbook_command ? [h("h3", null, "Rehearse it"), h("div.cli", null, h("code", null, body.runbook_command), copy(() => body.runbook_command))] : null);
}

function blockOf(one) {
  switch (one.is) {
    case "heading": return h("h3", null, one.of.map(inline));
    case "list": return h(one.ordered ? "ol" : "ul", null, one.items.map((item) => h("li", null, item.map(inline))));
    case "code": return h("pre", null, h("code", null, one.text));
    default: return h("p", null, (one.of ?? []).map(inline));
  }
}

function inline(one) {
  switch (one.is) {
    case "code": return h("code", null, one.text);
    case "strong": return h("b", null, one.text);
    case "emphasis": return h("em", null, one.text);
    case "link": return h("a", { href: one.href, rel: "noreferrer", target: "_blank" }, one.text);
    default: return one.text;
  }
}

