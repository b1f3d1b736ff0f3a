// What happened, in order, and why was it decided so? The newest first.

import { h, put, say, table } from "./dom.js";
import { draw, get, reader } from "./feed.js";
import { incidentPath } from "./paths.js";
import { kind, moment, state } from "./words.js";

const PAGE = 200;
const MOST = 2000;

export function events(panel, { id, base, route, scope }) {
  const all = h("input", { type: "checkbox", id: "all-events", onchange: () => { rows.clear(); read(); } });
  const filter = h("input", { type: "search", placeholder: "Filter", "aria-label": "Filter events", value: route.query.get("filter") ?? "", oninput: () => show() });
  const older = h("button", { hidden: true, onclick: page }, "Older events");
  const wrong = h("p.notice.bad", { hidden: true });
  const list = table([
    { title: "When", cls: "when", value: (one) => one.at, fill: (one) => moment(one.at) },
    { title: "What", cls: "what", text: (one) => kind(one.kind.replace(/(?<=[a-z])(?=[A-Z])/g, " ").toLowerCase()) },
    { title: "Said", cls: "said", value: (one) => [one.sentences, one.reason, one.opened, one.closed], fill: (one) => said(id, one) },
    { title: "Then", cls: "then", value: (one) => one.state, fill: (one) => state(one.state) },
  ], { caption: "Events of the run, the newest first", key: (one) => one.id, empty: "Nothing happened yet." });
  list.classList.add("events");
  put(panel, h("div.row.wide", null, filter, h("label.row", { for: "all-events" }, all, "also those that say nothing to a person")), wrong, h("div.pad", null, list), older);

  const rows = new Map();
  let before = null;
  const show = () => {
    const text = filter.value.trim().toLowerCase();
    const found = [...rows.values()].sort((a, b) => b.id - a.id);
    const told = all.checked ? found : found.filter(speaks);
    list.show(text ? told.filter((one) => words(one).includes(text)) : told);
  };
  const take = (found) => { for (const one of found) rows.set(one.id, one); };
  const query = (more = "") => `${base}/events?limit=${PAGE}${all.checked ? "&all=1" : ""}${more}`;
  const read = reader(scope, () => query(), (body) => {
    wrong.hidden = true;
    if (rows.size === 0 || before === null) before = body.older;
    take(body.events);
    older.hidden = before === null;
    show();
  }, { least_ms: 1000, fail: (error) => { wrong.hidden = false; say(wrong, error.message); } });
  async function page() {
    older.disabled = true;
    const body = await get(query(`&before=${before}`), { signal: scope.abort.signal }).catch((error) => { wrong.hidden = false; say(wrong, error.message); });
    older.disabled = false;
    if (!body) return;
    take(body.events);
    before = body.older;
    older.hidden = before === null || rows.size > MOST;
    show();
  }
  read();
  return {
    entries(found, since) { take(found.map((one) => ({ sentences: [], ...one }))); draw(panel, show, since); },
    heard(part, since) { if (part === "all" || (part === "events" && all.checked)) read(since); },
  };
}

/** Progress and saves that went well are not what anybody looks for. */
const speaks = (one) => one.sentences.length > 0 || one.opened.length > 0 || Boolean(one.reason);
const words = (one) => [one.kind, one.reason, ...one.sentences, ...one.opened].join(" ").toLowerCase();

function said(id, one) {
  const texts = one.sentences.length ? one.sentences : [one.reason];
  const links = one.opened.map((incident) => [h("a", { href: incidentPath(id, incident) }, `incident ${incident}`), " "]);
  return [texts.map((text, n) => h(n ? "span.sub" : "span", null, text)), links.length ? h("span.sub", null, links) : null];
}
