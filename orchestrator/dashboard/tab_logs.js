// What did a rank say? The culprit's words first; search, page back, follow.

import { h, put, say, when } from "./dom.js";
import { draw, get, reader } from "./feed.js";
import { go, logPath } from "./paths.js";
import { at, bytes, time } from "./words.js";

const TAIL = 400;
const MOST = 4000; // lines on the page; older ones are paged in again

export function logs(panel, { id, base, route, scope }) {
  const world = h("select", { "aria-label": "World" });
  const rank = h("input", { type: "number", min: "0", step: "1", "aria-label": "Rank", placeholder: "rank" });
  rank.style.width = "84px";
  const which = h("select", { "aria-label": "Stream" }, ["stderr", "stdout"].map((name) => h("option", { value: name }, name)));
  const culprit = h("button", { hidden: true });
  const grep = h("input", { type: "search", placeholder: "Only lines with …", "aria-label": "Only lines with", value: route.query.get("grep") ?? "" });
  const follow = h("button", { "aria-pressed": "true", onclick: () => { state.follow = !state.follow; told(); if (state.follow) more(); } }, "Follow");
  const older = h("button", { hidden: true, onclick: back }, "Older lines");
  const about = h("span.quiet");
  const box = h("div.log", { tabindex: "0", role: "log", "aria-label": "Lines of the log", "data-keys": "" });
  const wrong = h("p.notice", { hidden: true });
  put(panel, h("div.row", null, culprit, h("label.row", null, "world", world), h("label.row", null, "rank", rank), which, grep, follow, older), h("div.pad", null, about), wrong, box);

  const state = { source: route.query.get("source"), rank: route.query.get("rank"), grep: grep.value, follow: true, first: 0, next: 0, sources: [] };
  const told = () => follow.setAttribute("aria-pressed", String(state.follow));
  const lines = (query) => get(`${base}/logs/lines?source=${encodeURIComponent(state.source)}${state.grep ? `&grep=${encodeURIComponent(state.grep)}` : ""}${query}`, { signal: scope.abort.signal });
  const read = reader(scope, () => `${base}/logs${state.rank ? `?rank=${state.rank}` : ""}`, listed, { least_ms: 1000, fail });

  function listed(body) {
    state.sources = body.sources;
    const worlds = [...new Set(body.sources.filter((one) => one.world >= 0).map((one) => one.world))].sort((a, b) => b - a);
    when(world, worlds, () => put(world, h("option", { value: "-1" }, "supervisor"), worlds.map((each) => h("option", { value: each }, `w${each}`))));
    culprit.hidden = !body.culprit;
    if (body.culprit) {
      const found = body.sources.find((one) => one.culprit);
      say(culprit, `Culprit: rank ${body.culprit.rank} (${body.culprit.incident})`);
      culprit.onclick = () => found && choose(found.id);
    }
    state.rank = null;
    if (!state.source) choose((body.sources.find((one) => one.culprit && one.bytes > 0) ?? body.sources.find((one) => one.bytes > 0) ?? body.sources[0])?.id ?? "supervisor", true);
    else if (!state.begun) open();
  }

  function choose(source, silent = false) {
    state.source = source;
    if (!silent) go(logPath(id, source), true);
    open();
  }

  async function open() {
    state.begun = true;
    state.loaded = false;
    const opening = state.opening = {};
    const [, , one_world, one_rank, stream] = state.source.split("/");
    world.value = one_world ?? "-1";
    rank.value = one_rank ?? "";
    if (stream) which.value = stream;
    rank.disabled = which.disabled = state.source === "supervisor";
    box.replaceChildren();
    try {
      const body = await lines(`&tail=${TAIL}`);
      if (state.opening !== opening) return; // meanwhile another was chosen
      state.loaded = true;
      wrong.hidden = true;
      [state.first, state.next] = [body.first, body.next];
      about_(body);
      older.hidden = body.first === 0;
      add(body.lines);
      if (!body.lines.length) { wrong.hidden = false; say(wrong, state.grep ? "No line has this text." : "This rank has said nothing here."); }
    } catch (error) { fail(error); }
  }

  function about_(body) {
    const one = body.source;
    const where = one.id === "supervisor" ? "the supervisor" : `attempt ${one.attempt}, node ${one.node}, world ${one.world}, rank ${one.rank}, ${one.stream}`;
    put(about, `${where} · ${bytes(body.bytes)} · written ${at(one.written_at, time.now())}`, one.culprit ? " · culprit of the newest incident" : "");
  }

  function add(found, before = null) {
    const end = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
    const nodes = found.map(([byte, text, level]) => h(`div${level ? `.${level}` : ""}`, { "data-byte": byte }, marked(text, state.grep)));
    if (before) {
      const tall = box.scrollHeight;
      box.prepend(...nodes);
      box.scrollTop += box.scrollHeight - tall;
    } else {
      box.append(...nodes);
      while (box.childElementCount > MOST) box.firstChild.remove();
      if (end && state.follow) box.scrollTop = box.scrollHeight;
    }
  }

  let busy = false;
  async function more(since = null) {
    if (busy || !state.loaded) return;
    busy = true;
    const { opening } = state;
    try {
      const body = await lines(`&from=${state.next}&limit=1000`);
      if (opening === state.opening && body.lines.length) draw(box, () => { wrong.hidden = true; add(body.lines); about_(body); }, since);
      if (opening === state.opening) state.next = body.next;
    } catch (error) { if (error.name !== "AbortError") fail(error); }
    busy = false;
  }

  async function back() {
    older.disabled = true;
    try {
      const body = await lines(`&before=${state.first}&tail=${TAIL}`);
      state.first = body.first;
      state.follow = false;
      told();
      add(body.lines, true);
      older.hidden = body.first === 0;
    } catch (error) { fail(error); }
    older.disabled = false;
  }

  function fail(error) { if (error.name === "AbortError") return; wrong.hidden = false; say(wrong, error.message); }

  function picked() {
    if (world.value === "-1") return choose("supervisor");
    const wanted = [Number(world.value), Number(rank.value || 0), which.value];
    const found = state.sources.find((one) => one.world === wanted[0] && one.rank === wanted[1] && one.stream === wanted[2]);
    if (found) return choose(found.id);
    get(`${base}/logs?world=${wanted[0]}&rank=${wanted[1]}`, { signal: scope.abort.signal }).then((body) => {
      const one = body.sources.find((each) => each.stream === wanted[2]) ?? body.sources[0];
      if (one) return choose(one.id);
      wrong.hidden = false;
      say(wrong, `Rank ${wanted[1]} left no log in world ${wanted[0]}.`);
    }, fail);
  }
  for (const node of [world, rank, which]) node.addEventListener("change", picked);
  grep.addEventListener("change", () => { state.grep = grep.value; open(); });
  box.addEventListener("scroll", () => {
    const end = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
    if (!end && state.follow && box.scrollHeight > box.clientHeight) { state.follow = false; told(); }
  }, { passive: true });
  scope.every(1, () => { if (state.follow && !document.hidden) more(); });
  read();
  return {
    heard(part, since) { if (part === "all" || part === "timeline") read(since); },
    turn(next) { const source = next.query.get("source"); if (source && source !== state.source) { state.source = source; open(); } },
  };
}

/** A line, with what was searched for marked. */
function marked(text, wanted) {
  if (!wanted) return text || "\u00a0";
  const parts = [];
  const [low, sought] = [text.toLowerCase(), wanted.toLowerCase()];
  let from = 0;
  for (let found = low.indexOf(sought); found >= 0 && parts.length < 200; found = low.indexOf(sought, from)) {
    parts.push(text.slice(from, found), h("mark", null, text.slice(found, found + sought.length)));
    from = found + sought.length;
  }
  return [...parts, text.slice(from)];
}
