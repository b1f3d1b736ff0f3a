// Which machine keeps failing?

import { h, put, say, table } from "./dom.js";
import { reader, stream } from "./feed.js";
import { incidentPath, runPath } from "./paths.js";
import { kind, moment, number, state, verdict } from "./words.js";

export function nodes(root, _, scope) {
  document.title = "Nodes · lastgood";
  stream.open(null);
  const wrong = h("p.notice.bad", { hidden: true });
  const list = table([
    { title: "Node", text: (one) => one.host },
    { title: "Now", value: (one) => [one.joined_at, one.gone_at, one.repeat], fill: (one) => [standing(one), one.repeat ? h("span.sub", null, verdict(false, "repeat offender")) : null] },
    { title: "Incidents in 30 d", cls: "number", text: (one) => number(one.incidents_30d) },
    { title: "Of what kind", value: (one) => one.kinds, fill: (one) => Object.entries(one.kinds).sort((a, b) => b[1] - a[1]).map(([name, count]) => `${count} × ${kind(name)}`).join(", ") || "–" },
    { title: "Last", value: (one) => one.last, fill: (one) => (one.last ? [h("a", { href: incidentPath(one.last.run, one.last.id) }, kind(one.last.kind)), h("span.sub", null, moment(one.last.at))] : "–") },
    { title: "Runs", value: (one) => one.runs, fill: (one) => one.runs.slice(0, 4).map((each) => h("span.sub", null, h("a", { href: runPath(each.run) }, each.run), ` node ${each.node} `, state(each.state))) },
  ], { caption: "Machines, those with the most incidents first", key: (one) => one.host, empty: "No machine was in a run yet." });
  put(root, h("h1", null, "Nodes"), h("p.quiet.pad", null, "Every machine that was in a run, most incidents first. A repeat offender was named by three or more in 30 days: leave it out with Restart …"), wrong, list);
  const read = reader(scope, () => "/api/nodes", (body) => { wrong.hidden = true; list.show(body.nodes); }, { least_ms: 2000, fail: (error) => { wrong.hidden = false; say(wrong, error.message); } });
  stream.on("runs", (_, since) => read(since), scope);
  stream.on("reset", (_, since) => read(since), scope);
  read();
  return {};
}

function standing(one) {
  if (one.gone_at !== null && (one.joined_at === null || one.gone_at >= one.joined_at)) return verdict(null, "gone");
  return one.joined_at === null ? verdict(null, "not heard yet") : one.runs.some((each) => ["RUNNING", "STARTING", "RECOVERING"].includes(each.state)) ? verdict(true, "in a run") : verdict(null, "idle");
}
