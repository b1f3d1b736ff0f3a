// Who is told of what, and did it reach them?

import { h, put, say, table, when } from "./dom.js";
import { reader, stream } from "./feed.js";
import { incidentPath, runPath } from "./paths.js";
import { kind, moment, number, severity, verdict } from "./words.js";

export function alerts(root, _, scope) {
  document.title = "Alerts · lastgood";
  stream.open(null);
  const wrong = h("p.notice.bad", { hidden: true });
  const how = h("div.sheet", { hidden: true });
  const channels = table([
    { title: "Channel", text: (one) => one.name },
    { title: "Service", text: (one) => one.kind },
    { title: "From", value: (one) => one.minimum, fill: (one) => severity(one.minimum) },
    { title: "Last delivery", value: (one) => [one.last_at, one.last_ok], fill: (one) => (one.last_at === null ? "none yet" : [verdict(one.last_ok, one.last_ok ? "delivered" : "failed"), " ", moment(one.last_at)]) },
    { title: "Why it failed", text: (one) => one.last_error ?? "" },
    { title: "Waiting", cls: "number", text: (one) => number(one.waiting) },
  ], { caption: "Channels", key: (one) => one.name, empty: "No channel." });
  const silences = table([
    { title: "Silence", text: (one) => one.id },
    { title: "Until", value: (one) => one.until, fill: (one) => moment(one.until) },
    { title: "For", value: (one) => one.matches, fill: (one) => (typeof one.matches === "string" ? one.matches : Object.entries(one.matches ?? {}).map(([name, value]) => `${name}=${value}`).join(", ")) },
    { title: "Why", text: (one) => one.why },
    { title: "By", text: (one) => one.by },
  ], { caption: "Silences", key: (one) => one.id, empty: "Nothing is silenced." });
  const rules = table([
    { title: "Rule", text: (one) => kind(one.name) },
    { title: "Severity", value: (one) => one.severity, fill: (one) => severity(one.severity) },
    { title: "Says", text: (one) => one.text },
    { title: "When", text: (one) => (typeof one.fires === "string" ? one.fires : one.fires ? "pages" : "is noted") },
  ], { caption: "Rules", key: (one) => one.name, empty: "No rule." });
  const history = table([
    { title: "When", value: (one) => one.at, fill: (one) => moment(one.at) },
    { title: "State", text: (one) => one.state },
    { title: "Severity", value: (one) => one.severity, fill: (one) => severity(one.severity) },
    { title: "What", value: (one) => [one.title, one.incident, one.run], fill: (one) => [one.run && one.incident ? h("a", { href: incidentPath(one.run, one.incident) }, one.title) : one.title, one.run ? h("span.sub", null, h("a", { href: runPath(one.run) }, one.run)) : null] },
    { title: "To", value: (one) => one.channels, fill: (one) => [one.channels].flat().map((each) => (typeof each === "string" ? each : each?.name ?? "")).join(", ") },
  ], { caption: "What was sent, the newest first", key: (one) => `${one.at} ${one.run} ${one.incident} ${one.state} ${one.title}`, empty: "Nothing was sent yet." });
  const lists = [["Channels", channels], ["Silences", silences], ["Sent", history], ["Rules", rules]].map(([title, node]) => h("section", null, h("h2", null, title), node));
  put(root, h("h1", null, "Alerts"), wrong, how, lists);
  const read = reader(scope, () => "/api/alerts", (body) => {
    wrong.hidden = true;
    how.hidden = body.configured;
    when(how, body.why, () => put(how, h("p", null, body.why), h("p.pad.quiet", null, "lastgood alerts test sends a test to every channel; lastgood silence quiets them for a while.")));
    lists.forEach((node) => { node.hidden = !body.configured; });
    lists[3].hidden = body.rules.length === 0;
    channels.show(body.channels);
    silences.show(body.silences);
    rules.show(body.rules);
    history.show(body.history);
  }, { least_ms: 1000, fail: (error) => { wrong.hidden = false; say(wrong, error.message); } });
  stream.on("alerts", (_, since) => read(since), scope);
  stream.on("reset", (_, since) => read(since), scope);
  read();
  return {};
}
