// How does the page hear what happens? Reads with ETags, one stream of events, one frame for all that came at once.

import { time } from "./words.js";

export class Refused extends Error {
  constructor(status, code, sentence) {
    super(sentence);
    this.status = status;
    this.code = code;
  }
}

export const session = { login: false, role: null, name: null, csrf: null, host: "", version: "" };

const known = new Map(); // path → {etag, body}, the newest last
const KEPT = 40;

/** The answer to a GET. Raises Refused with the server's sentence. */
export async function get(path, { signal } = {}) {
  const before = known.get(path);
  const headers = before ? { "If-None-Match": before.etag } : {};
  const answer = await fetched(path, { headers, signal, cache: "no-store" });
  if (answer.status === 304 && before) return before.body;
  const body = await told(answer);
  const etag = answer.headers.get("ETag");
  known.delete(path);
  if (etag) known.set(path, { etag, body });
  if (known.size > KEPT) known.delete(known.keys().next().value);
  time.learn(body.at);
  return body;
}

/** The answer to a POST of JSON. */
export async function post(path, body) {
  const headers = { "Content-Type": "application/json" };
  if (session.csrf) headers["X-Lastgood-CSRF"] = session.csrf;
  return told(await fetched(path, { method: "POST", headers, body: JSON.stringify(body) }));
}

async function fetched(path, options) {
  try {
    return await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, "unreachable", "The dashboard's server does not answer. lastgood dashboard starts it anew.");
  }
}

async function told(answer) {
  const body = await answer.json().catch(() => ({}));
  if (answer.ok) return body;
  if (answer.status === 401 && session.role) dispatchEvent(new Event("lastgood:login"));
  throw new Refused(answer.status, body.code ?? "", body.error ?? `The server answered ${answer.status}.`);
}

export async function openSession() {
  const found = await get("/api/session");
  return Object.assign(session, found);
}

// One frame for everything that is to be drawn

const waiting = new Map();
let heardAt = null; // when the first event came that the next frame will show

/** Calls `paint` in the next frame, once however often asked; `since`: when the event came that it shows. */
export function draw(key, paint, since = null) {
  if (since !== null && heardAt === null) heardAt = since;
  if (waiting.size === 0) requestAnimationFrame(frame);
  waiting.set(key, paint);
}

function frame() {
  const all = [...waiting.values()];
  waiting.clear();
  const since = heardAt;
  heardAt = null;
  for (const paint of all) attempt(paint);
  if (since !== null) afterPaint(() => measured(since));
}

/** What cannot be drawn is told, and keeps nothing else from being drawn. */
function attempt(paint) {
  try {
    paint();
  } catch (error) {
    reportError(error);
  }
}

const painted = new MessageChannel();
const afterwards = [];
painted.port1.onmessage = () => afterwards.splice(0).forEach((call) => call());

/** A message that is posted in a frame is served after that frame was painted. */
function afterPaint(call) {
  afterwards.push(call);
  painted.port2.postMessage(0);
}

let measures = 0;
function measured(since) {
  performance.measure("event-to-pixel", { start: since, end: performance.now() });
  if (++measures % 1000 === 0) performance.clearMeasures("event-to-pixel");
}

// The stream

const EVENTS = ["hello", "runs", "progress", "run", "points", "kpi", "entries", "ranks", "supervisor", "alerts", "reset"];
const AGAIN_MS = 2000;

/** Hears of all runs, and in detail of the one that is open, and of its ranks where they are looked at. */
class Stream {
  listeners = new Map(EVENTS.map((name) => [name, new Set()]));
  source = null;
  run = null;
  ranks = false;
  cursor = null;
  version = null;
  connected = false;

  /** Calls `hear(data, since)` for each event of that name, until `scope` is left. */
  on(name, hear, scope) {
    this.listeners.get(name).add(hear);
    scope.leave(() => this.listeners.get(name).delete(hear));
  }

  /** Listens to `run` (null: only to what concerns all), from the last event on. Open first, read then: nothing is missed. */
  open(run, ranks = false) {
    if (this.source && this.run === run && this.ranks === ranks && this.source.readyState !== EventSource.CLOSED) return;
    this.close();
    this.run = run;
    this.ranks = ranks;
    const query = new URLSearchParams();
    if (run) query.set("run", run);
    if (ranks) query.set("ranks", "1");
    if (this.cursor) query.set("after", this.cursor);
    const source = new EventSource(`/api/stream?${query}`);
    this.source = source;
    source.onopen = () => this.turned(true);
    source.onerror = () => {
      this.turned(false);
      if (source.readyState === EventSource.CLOSED) this.again = setTimeout(() => this.reopen(source), AGAIN_MS);
    };
    for (const name of EVENTS) source.addEventListener(name, (event) => this.heard(name, event));
  }

  /** The browser gives up where the server refused; a restarted server refuses for a moment. */
  reopen(source) {
    if (this.source !== source) return;
    this.source = null;
    this.cursor = null;
    this.open(this.run, this.ranks);
    this.tell("reset", {}, performance.now());
  }

  heard(name, event) {
    const since = performance.now();
    const data = JSON.parse(event.data);
    this.cursor = event.lastEventId || this.cursor;
    if (name === "hello") {
      if (this.version && data.version !== this.version) location.reload();
      this.version = data.version;
    }
    if (data.at) time.learn(data.at);
    this.tell(name, data, since);
  }

  tell(name, data, since) {
    for (const hear of this.listeners.get(name)) hear(data, since);
  }

  turned(connected) {
    this.connected = connected;
    dispatchEvent(new Event("lastgood:stream"));
  }

  close() {
    clearTimeout(this.again);
    this.source?.close();
    this.source = null;
  }
}

export const stream = new Stream();

/** What a page holds as long as it is shown: listeners, timers, requests. */
export class Scope {
  calls = [];
  abort = new AbortController();
  leave(call) {
    this.calls.push(call);
  }
  close() {
    this.abort.abort();
    for (const call of this.calls.splice(0)) call();
  }
  every(seconds, call) {
    const timer = setInterval(call, seconds * 1000);
    this.leave(() => clearInterval(timer));
  }
  listen(target, name, call, options) {
    target.addEventListener(name, call, options);
    this.leave(() => target.removeEventListener(name, call, options));
  }
}

/**
 * Reads `path()` now and whenever asked again, never twice at once, at most each `least_ms`; draws in a frame.
 * `show(body)` draws; `fail(error)` tells why it could not be read.
 */
export function reader(scope, path, show, { fail = () => {}, least_ms = 0 } = {}) {
  const key = {};
  let busy = false;
  let asked = null; // since when somebody waits for a read that was not begun
  let last = -Infinity;
  async function read(since = null) {
    const wait = last + least_ms - performance.now();
    if (busy || wait > 0) {
      if (asked === null && !busy) setTimeout(() => again(), wait);
      asked ??= since ?? performance.now();
      return;
    }
    busy = true;
    last = performance.now();
    const wanted = path();
    try {
      const body = await get(wanted, { signal: scope.abort.signal });
      if (wanted !== path()) asked ??= performance.now(); // meanwhile something else is wanted
      else if (!scope.abort.signal.aborted) draw(key, () => show(body), since);
    } catch (error) {
      if (!scope.abort.signal.aborted) fail(error);
    }
    busy = false;
    if (asked !== null) again();
  }
  function again() {
    const since = asked;
    asked = null;
    if (!scope.abort.signal.aborted) read(since);
  }
  return read;
}
