// Which runs are there, and which of them need a person? Read once, then kept up to date by the stream.

import { Scope, draw, reader, stream } from "./feed.js";

const RANK = { critical: 0, error: 1, warning: 2 };
const ENDED = new Set(["SUCCEEDED", "STOPPED"]);

export const fleet = {
  rows: new Map(),
  supervisor: null,
  silences: null,
  read: false,
  failed: null,
  listeners: new Set(),

  /** Calls `show` in the frame after something changed, as long as `scope` lasts. */
  on(show, scope) {
    this.listeners.add(show);
    scope.leave(() => this.listeners.delete(show));
    if (this.read || this.failed) show();
  },
};

export const needs = (row) => row.attention.length > 0;
export const ended = (row) => ENDED.has(row.state);
const worst = (row) => Math.min(...row.attention.map((reason) => RANK[reason.severity] ?? 3));

/** Those that need a person, the most severe first; those that go on; those that ended. */
export function groups() {
  const rows = [...fleet.rows.values()].sort((a, b) => b.submitted_at - a.submitted_at);
  return {
    attention: rows.filter(needs).sort((a, b) => worst(a) - worst(b)),
    active: rows.filter((row) => !needs(row) && !ended(row)),
    ended: rows.filter((row) => !needs(row) && ended(row)),
  };
}

const lasting = new Scope();
const key = {};

function changed(since) {
  draw(key, () => fleet.listeners.forEach((show) => show()), since);
}

const read = reader(lasting, () => "/api/home", (body) => {
  const old = fleet.rows;
  fleet.rows = new Map(body.runs.map((row) => [row.run, newer(old.get(row.run), row)]));
  Object.assign(fleet, { supervisor: body.supervisor, silences: body.silences, read: true, failed: null });
  fleet.listeners.forEach((show) => show());
}, { least_ms: 1000, fail: (error) => { fleet.failed = error.message; changed(null); } });

/** A step that the stream told of while the answer was on its way stays. */
function newer(old, row) {
  return old && old.world === row.world && old.step > row.step ? { ...row, step: old.step, step_at: old.step_at } : row;
}

let attending = false;

/** Begins to listen, after the login. */
export function attend() {
  if (attending) return;
  attending = true;
  stream.on("runs", ({ rows }, since) => {
    for (const row of rows) fleet.rows.set(row.run, { ...fleet.rows.get(row.run), ...row });
    changed(since);
  }, lasting);
  stream.on("progress", ({ runs }, since) => {
    for (const [run, step, step_at, world] of runs) {
      const row = fleet.rows.get(run);
      if (row) fleet.rows.set(run, { ...row, step, step_at, world: world ?? row.world });
    }
    changed(since);
  }, lasting);
  stream.on("supervisor", (supervisor, since) => {
    fleet.supervisor = supervisor;
    changed(since);
  }, lasting);
  stream.on("alerts", () => read(), lasting);
  stream.on("reset", () => read(), lasting);
  lasting.every(30, () => document.hidden || read()); // losses of the sparklines, goodput
  again();
}

export const again = () => read();
