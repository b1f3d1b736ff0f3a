// What was asked for? As submitted, as resolved, and what was changed since.

import { copy } from "./actions.js";
import { h, put, say, table } from "./dom.js";
import { reader } from "./feed.js";
import { moment } from "./words.js";

export function config(panel, { base, scope }) {
  const yaml = h("code");
  const whole = h("code");
  const wrong = h("p.notice.bad", { hidden: true });
  const changes = table([
    { title: "When", value: (one) => one.at, fill: (one) => moment(one.at) },
    { title: "By", text: (one) => one.by },
    { title: "Changed", value: (one) => one.changes, fill: (one) => one.changes.map((each) => h("span.sub.mono", null, each)) },
  ], { caption: "Revisions", key: (one) => one.at, empty: "Nothing was changed since it was submitted." });
  put(panel, wrong,
    h("div.row.wide", null, h("h2", null, "As submitted"), copy(() => yaml.textContent)), h("pre.source", { tabindex: "0" }, yaml),
    h("section", null, h("h2", null, "Changed since"), changes),
    h("section", null, h("h2", null, "The whole spec, with what was left to lastgood"), h("pre.source", { tabindex: "0" }, whole)));
  const read = reader(scope, () => `${base}/config`, (body) => {
    wrong.hidden = true;
    say(yaml, body.yaml || "Submitted without a file.");
    say(whole, JSON.stringify(body.resolved, null, 2));
    changes.show(body.revisions);
  }, { fail: (error) => { wrong.hidden = false; say(wrong, error.message); } });
  read();
  return { heard: (part) => { if (part === "all") read(); } };
}
