// How does this run stand, what became of it, and what can I do? The sentence first, then numbers, then its whole course.

import { button, buttons, own } from "./actions.js";
import { Axis } from "./axis.js";
import { NAMES, charts } from "./charts.js";
import { h, put, say, when } from "./dom.js";
import { Scope, draw, reader, stream } from "./feed.js";
import { fleet } from "./fleet.js";
import { incidentPath, runPath } from "./paths.js";
import { checkpoints } from "./tab_checkpoints.js";
import { config } from "./tab_config.js";
import { events } from "./tab_events.js";
import { incidents } from "./tab_incidents.js";
import { logs } from "./tab_logs.js";
import { ranks } from "./tab_ranks.js";
import { timeline } from "./timeline.js";
import { kind, moment, number, severity, share, span, state, steady, time } from "./words.js";

const TABS = [["events", "Events", events], ["logs", "Logs", logs], ["ranks", "Ranks × nodes", ranks], ["checkpoints", "Checkpoints", checkpoints], ["config", "Config", config], ["incidents", "Incidents", incidents]];
const OVER = new Set(["SUCCEEDED", "STOPPED", "HELD"]);

export function run(root, route, scope) {
  const id = route.run;
  const base = `/api/runs/${encodeURIComponent(id)}`;
  document.title = `${id} · lastgood`;
  stream.open(id);
  const axis = new Axis();
  const view = top(id);
  const course = timeline(axis, scope, (incident) => incidentPath(id, incident));
  const curves = charts(axis, scope);
  course.insertBefore(curves, course.lastChild); // the legend of the timeline stays at the foot of all
  const tabs = tabbed(id, base);
  put(root, view.node, course, tabs.node);

  const wrong = (error) => { view.failed(error.message); };
  const live = { over: false };
  const summary = reader(scope, () => base, (body) => {
    view.show(body);
    live.over = OVER.has(body.row.state) && body.row.state !== "HELD";
    tabs.told(body);
  }, { fail: wrong, least_ms: 250 });
  const lanes = reader(scope, () => `${base}/timeline${window_(axis)}`, (body) => {
    if (!axis.fixed || !axis.begun) axis.reach(axis.begun ? axis.whole[0] : body.from, Math.max(body.to, axis.begun ? axis.whole[1] : 0));
    axis.begun = true;
    course.show(body);
  }, { fail: () => {}, least_ms: 500 });
  const points = () => Math.min(1600, Math.max(200, Math.round(root.clientWidth / 1.5 / 100) * 100));
  const series = reader(scope, () => `${base}/series?names=${NAMES.join(",")}&points=${points()}${window_(axis, "&")}`, (body) => { curves.show(body); tabs.settle(); }, { fail: () => {}, least_ms: 1000 });
  const all = (since) => { summary(since); lanes(since); series(since); tabs.heard("all", since); };
  const does = { summary, timeline: (since) => { lanes(since); series(since); }, incidents: summary };
  const strip = {};

  stream.on("run", ({ run: which, changed }, since) => {
    if (which !== id) return;
    for (const part of new Set(changed)) { does[part]?.(since); tabs.heard(part, since); }
  }, scope);
  stream.on("points", (body, since) => { if (body.run === id && !axis.fixed) draw(curves, () => curves.append(body.series), since); }, scope);
  stream.on("kpi", (body, since) => { if (body.run === id) draw(strip, () => view.kpi(body.kpi), since); }, scope);
  stream.on("entries", (body, since) => { if (body.run === id) tabs.entries(body.events, since); }, scope);
  stream.on("reset", (_, since) => all(since), scope);
  scope.listen(window, "lastgood:acted", () => all(null));
  const later = debounced(() => { lanes(); series(); }, 200);
  axis.listeners.add((_, asked) => asked && later());
  fleet.on(() => { const row = fleet.rows.get(id); if (row) view.row(row); }, scope);
  scope.every(1, () => {
    if (live.over || !axis.begun || document.hidden) return;
    draw(axis, () => axis.reach(axis.whole[0], time.now()));
  });
  scope.every(60, () => live.over || document.hidden || series()); // what was appended is thinned by the server
  scope.leave(() => tabs.close());
  summary();
  lanes();
  series();
  tabs.turn(route);
  return { turn: tabs.turn };
}

/** The times asked for: none while all is shown, so that what is asked stays the same. */
function window_(axis, sign = "?") {
  if (axis.fixed) return `${sign}from=${axis.fixed[0].toFixed(3)}&to=${axis.fixed[1].toFixed(3)}`;
  if (!axis.last_s) return "";
  const step = axis.last_s / 20;
  return `${sign}from=${Math.floor((axis.whole[1] - axis.last_s) / step) * step - step}`;
}

function debounced(call, wait_ms) {
  let timer = null;
  return () => { clearTimeout(timer); timer = setTimeout(call, wait_ms); };
}

/** Header and numbers. */
function top(id) {
  const failed = h("p.notice.bad", { hidden: true });
  const badge = h("span");
  const sentence = h("p.sentence", null, "…");
  const next = h("p.notice", { hidden: true });
  const reasons = h("div");
  const links = h("div.row.quiet");
  const doing = h("div.row.actions.no-print");
  const strip = h("dl.kpis", null, KPIS.map(([name]) => h("div", null, h("dt", null, name), h("dd", null, "–"), h("div.sub", null, "\u00a0"))));
  const node = h("div", null,
    h("p.crumb", null, h("a", { href: "/" }, "Runs"), " / ", id),
    h("div.row.wide", null, h("div.row", null, h("h1", null, id), badge), doing),
    failed, sentence, reasons, next, links, strip);
  let last = null;
  const numbers = () => KPIS.forEach(([, value, sub], n) => {
    const [, dd, under] = strip.children[n].children;
    say(dd, value(last));
    const below = sub?.(last) ?? "\u00a0";
    if (typeof below === "string") say(under, below || "\u00a0");
    else when(under, below.sign, () => put(under, below.node()));
  });
  return {
    node,
    failed(text) { failed.hidden = false; say(failed, text); },
    show(body) {
      failed.hidden = true;
      last = { ...body, row: { ...body.row } };
      when(badge, body.row.state, () => put(badge, state(body.row.state)));
      say(sentence, body.row.sentence);
      next.hidden = !body.next;
      say(next, body.next);
      when(reasons, body.row.attention, () => put(reasons, body.row.attention.map((one) => h("p.notice.bad", null, severity(one.severity), " ",
        one.incident ? h("a", { href: incidentPath(id, one.incident) }, one.text) : one.text))));
      when(links, [body.links, body.row.since], () => put(links, "since ", moment(body.row.since), body.links.map((link) => [" · ", h("a", { href: link.href, rel: "noreferrer", target: "_blank" }, link.text)])));
      when(doing, [body.actions, body.status.nodes, body.status.open_incidents], () => put(doing, acts(id, body)));
      numbers();
    },
    kpi(kpi) {
      if (!last) return;
      last.kpi = kpi;
      numbers();
    },
    row(row) {
      if (!last || row.step < last.row.step && row.world === last.row.world) return;
      last.row = row;
      for (const name of ["step", "eta", "loss", "tokens_per_s", "step_s"]) last.kpi[name] = row[name];
      say(sentence, row.sentence);
      when(badge, row.state, () => put(badge, state(row.state)));
      numbers();
    },
  };
}

/** Stop, pause, resume, restart; and acknowledge, for the newest incident that is open. */
function acts(id, body) {
  const run_ = body.actions.filter((one) => ["stop", "pause", "resume", "restart"].includes(one.action));
  const meant = run_.filter((one) => one.action !== "resume" || one.allowed || OVER.has(body.row.state) || body.row.state === "PAUSED");
  const open = body.incidents.filter((one) => body.row.open_incidents.includes(one.id) && !one.acknowledged).at(-1);
  const ack = own("acknowledge", `lastgood incident ack ${id} ${open?.id}`);
  return [
    buttons(meant, { run: id, nodes: body.status.nodes, sentence: body.row.sentence }),
    open ? button(ack, { run: id, incident: open.id, text: `Acknowledge ${open.id}`, sentence: `${open.id}: ${kind(open.kind)}` }) : null,
  ];
}

const lost = (ledger) => {
  const off = ["recomputed", "hung", "detecting", "recovering", "startup", "restore", "checkpoint_stall", "data_stall"];
  const most = off.map((name) => [name, ledger.buckets[name] ?? 0]).sort((a, b) => b[1] - a[1])[0];
  return most[1] > 0 ? `most lost: ${kind(most[0])} ${span(most[1])}` : "nothing lost";
};

/** name, value, and what stands below it. */
const KPIS = [
  ["Step", ({ row }) => number(row.step), ({ row, kpi }) => [row.steps ? `of ${number(row.steps)}` : "", kpi.eta && !row.ended_at ? `ends in ${span(Math.max(0, kpi.eta - time.now())).replace(/ \d+ s$/, "")}` : ""].filter(Boolean).join(", ")],
  ["Loss", ({ kpi }) => steady(kpi.loss), ({ kpi }) => (kpi.step_s === null ? "" : `step ${span(kpi.step_s)}`)],
  ["Tokens/s", ({ kpi }) => number(kpi.tokens_per_s && Math.round(kpi.tokens_per_s)), ({ kpi }) => (kpi.mfu ? `MFU ${share(kpi.mfu)}` : "")],
  ["Goodput", ({ kpi }) => share(kpi.ledger.goodput), ({ kpi }) => lost(kpi.ledger)],
  ["ETTR", ({ kpi }) => share(kpi.ledger.ettr), ({ kpi }) => `of ${span(kpi.ledger.wall_s)}`],
  ["Restarts", ({ kpi }) => number(kpi.restarts), ({ kpi }) => `${kpi.restarts_24h} in 24 h, MTTF ${span(kpi.ledger.mttf_s)}`],
  ["By itself", ({ kpi }) => share(kpi.automatic_share), ({ kpi }) => `recovers in ${span(kpi.ledger.mttr_s)}`],
  ["Last good", ({ kpi }) => number(kpi.last_good_step), ({ kpi }) => (kpi.last_good_at ? { sign: kpi.last_good_at, node: () => moment(kpi.last_good_at, { brief: true }) } : "no checkpoint yet")],
  ["Budget left", ({ kpi }) => budget(kpi), ({ kpi }) => (kpi.budget.length ? `of ${kpi.budget.map((one) => one.what).join(", ")}` : "no budget set")],
  ["Energy", ({ kpi }) => (kpi.energy_kwh === null ? "–" : `${number(kpi.energy_kwh)} kWh`), ({ kpi }) => (kpi.power_w === null ? "" : `${number(Math.round(kpi.power_w))} W now`)],
];

function budget({ budget: all }) {
  if (!all.length) return "–";
  return share(Math.max(0, 1 - Math.max(...all.map((one) => one.share))));
}

/** Tabs with addresses of their own; one is open, and hears of what it shows. */
function tabbed(id, base) {
  const panel = h("div.panel", { role: "tabpanel", id: "panel" });
  const links = TABS.map(([name, text]) => h("a", { role: "tab", href: runPath(id, `/${name}`), "aria-selected": "false", "aria-controls": "panel" }, text));
  const list = h("div.tabs", { role: "tablist", onkeydown: arrows }, links);
  const node = h("section", null, list, panel);
  let open = null;
  let body = null;
  let wanted = false; // an address that names a tab leads to it, once all above has its height
  const close = () => { open?.scope.close(); open = null; };
  const settle = () => {
    if (wanted && !inView(list)) list.scrollIntoView({ block: "start" });
    wanted = false;
  };
  return {
    node,
    close,
    settle,
    turn(route) {
      wanted = TABS.some(([name]) => location.pathname.endsWith(`/${name}`));
      if (open) settle();
      const which = Math.max(0, TABS.findIndex(([name]) => name === route.tab));
      links.forEach((link, n) => { link.setAttribute("aria-selected", String(n === which)); link.tabIndex = n === which ? 0 : -1; });
      if (open?.which === which) return open.tab.turn?.(route);
      close();
      panel.replaceChildren();
      const scope = new Scope();
      open = { which, scope, tab: TABS[which][2](panel, { id, base, route, scope }) };
      if (body) open.tab.told?.(body);
    },
    told(found) { body = found; open?.tab.told?.(found); },
    heard(part, since) { open?.tab.heard?.(part, since); },
    entries(found, since) { open?.tab.entries?.(found, since); },
  };
}

function inView(node) {
  const box = node.getBoundingClientRect();
  return box.top >= 0 && box.bottom <= innerHeight;
}

function arrows(event) {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!step) return;
  const all = [...event.currentTarget.children];
  const next = all[(all.indexOf(document.activeElement) + step + all.length) % all.length];
  event.preventDefault();
  next.click();
  next.focus();
}

