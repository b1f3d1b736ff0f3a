// What went wrong in this run so far?

import { h, put, table } from "./dom.js";
import { incidentPath } from "./paths.js";
import { kind, moment, number, span, verdict, where } from "./words.js";

export function incidents(panel, { id }) {
  const list = table([
    { title: "Incident", value: (one) => one.id, fill: (one) => [h("a", { href: incidentPath(id, one.id) }, one.id), one.drill ? h("span.sub", null, "drill") : null] },
    { title: "What", text: (one) => kind(one.kind) },
    { title: "Where", text: (one) => where(one.subject) },
    { title: "Blame", text: (one) => kind(one.blame ?? "unknown") },
    { title: "Noticed", value: (one) => one.detected, fill: (one) => moment(one.detected) },
    { title: "At step", cls: "number", text: (one) => number(one.step) },
    { title: "Lost steps", cls: "number", text: (one) => number(one.steps_lost) },
    { title: "Recovered in", cls: "number", text: (one) => span(one.phases_s.total) },
    { title: "Now", value: (one) => [one.resolved, one.acknowledged], fill: (one) => (one.resolved ? verdict(true, "over") : verdict(null, one.acknowledged ? "acknowledged" : "open")) },
  ], { caption: "Incidents of the run, the newest first", key: (one) => one.id, empty: "No incident.", clickable: true });
  put(panel, list);
  return { told: (body) => list.show([...body.incidents].reverse()) };
}
