// Which run needs me, and why? Then those that go on, then those that ended.

import { h, keeping, put, say, table } from "./dom.js";
import { fleet, groups } from "./fleet.js";
import { stream } from "./feed.js";
import { incidentPath, runPath } from "./paths.js";
import { spark } from "./canvas.js";
import { moment, number, plural, severity, share, span, state, steady, time } from "./words.js";

const COLUMNS = [
  { id: "run", title: "Run", value: (row) => [row.run, row.attempt, row.world, row.hosts, row.nodes], fill: named },
  { id: "state", title: "State", cls: "state", value: (row) => [row.state, row.unsupervised], fill: (row) => state(row.state) },
  { id: "why", title: "Why", cls: "why", value: (row) => [row.attention, row.reason], fill: why },
  { id: "loss", title: "Loss", cls: "number.loss", value: (row) => [row.sparkline, row.loss], fill: (row) => [spark(row.sparkline ?? []), h("span", null, steady(row.loss))] },
  { id: "step", title: "Step", cls: "number", value: (row) => [row.step, row.steps, row.eta && !row.ended_at && Math.floor((row.eta - time.now()) / 60), row.ended_at], fill: step },
  { id: "speed", title: "Tokens/s", cls: "number", text: (row) => number(row.tokens_per_s && Math.round(row.tokens_per_s)) },
  { id: "goodput", title: "Goodput", cls: "number", help: "productive / time with devices", text: (row) => share(row.goodput) },
  { id: "restarts", title: "Restarts", cls: "number", help: "in 24 h, and in all", text: (row) => `${row.restarts_24h} / ${row.restarts}` },
  { id: "good", title: "Last good", cls: "number", help: "step and age of the newest checkpoint that is good", value: (row) => [row.last_good_step, row.last_good_at], fill: good },
];

function named(row) {
  return [h("a.id.clip", { href: runPath(row.run), title: row.run }, row.run), h("span.sub", null, row.attempt ? `attempt ${row.attempt}, ${row.hosts} of ${plural(row.nodes, "node")}` : "not launched yet")];
}

function why(row) {
  const reasons = row.attention.slice(0, 3).map((reason) => h("span.sub.reason", null,
    severity(reason.severity), " ",
    reason.incident ? h("a", { href: incidentPath(row.run, reason.incident) }, reason.text) : reason.text));
  const more = row.attention.length > 3 ? h("span.sub", null, `and ${row.attention.length - 3} more`) : null;
  return row.attention.length ? [reasons, more] : row.reason;
}

function step(row) {
  const goal = row.steps ? `of ${number(row.steps)}` : null;
  const end = row.ended_at ? ["ended ", moment(row.ended_at, { brief: true })] : row.eta ? `${span(Math.max(0, row.eta - time.now())).replace(/ \d+ s$/, "")} left` : null;
  return [number(row.step), goal && h("span.sub", null, goal), end && h("span.sub", null, end)];
}

function good(row) {
  return [number(row.last_good_step), row.last_good_at ? h("span.sub", null, moment(row.last_good_at, { brief: true })) : null];
}

const tableOf = (caption, empty) => {
  const node = table(COLUMNS, { caption, key: (row) => row.run, empty, clickable: true });
  node.classList.add("runs");
  return node;
};

export function home(root, _, scope) {
  document.title = "Runs · lastgood";
  stream.open(null);
  const first = tableOf("Runs that need attention");
  const active = tableOf("Active runs", "No run goes on.");
  const over = tableOf("Ended runs", "No run has ended.");
  const titles = [first, active, over].map(() => h("h2"));
  const parts = [first, active, over].map((node, n) => h("section", null, titles[n], node));
  const hint = h("div.sheet.hint", { hidden: true }, h("h2", null, "No run yet"),
    h("p.pad", null, "Submit one, and it shows here at once:"), h("p", null, h("code", null, "lastgood submit run.yaml")),
    h("p.pad.quiet", null, "lastgood demo plays a run with faults; lastgood init writes a spec to begin with."));
  const failed = h("p.notice.bad", { hidden: true });
  put(root, h("h1", null, "Runs"), failed, hint, parts);
  const show = () => {
    failed.hidden = !fleet.failed;
    say(failed, fleet.failed);
    const found = groups();
    const all = [found.attention, found.active, found.ended];
    ["Need attention", "Active", "Ended"].forEach((title, n) => say(titles[n], `${title} (${all[n].length})`));
    keeping(root, () => [first, active, over].forEach((node, n) => node.show(all[n]))); // a row goes from one to another, too
    parts[0].hidden = found.attention.length === 0;
    parts[1].hidden = parts[2].hidden = hint.hidden = true;
    if (fleet.rows.size) parts[1].hidden = parts[2].hidden = false;
    else hint.hidden = !fleet.read;
    const needed = found.attention.length;
    document.title = needed ? `(${needed}) Runs · lastgood` : "Runs · lastgood";
  };
  fleet.on(show, scope);
  return {};
}
