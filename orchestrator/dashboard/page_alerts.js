// Who is told of what, and did it reach them?

import { h, put, say, table, when } from "./dom.js";
import { reader, stream } from "./feed.js";
import { incidentPath, runPath } from "./paths.js";
import { moment, number, severity, verdict } from "./words.js";

export function alerts(root, _, scope) {
  document.title = "Alerts · lastgood";
  stream.open(null);
  const wrong = h("p.notice.bad", { hidden: true });
  const how = h("div.sheet", { hidden: true });
  const channels = table([
    { title: "Channel", text: (one) => one.name },
    { title: "Service", text: (one) => one.kind },
    { title: "From", value: (one) => one.minimum, fill: (one) => (one.minimum ? severity(one.minimum) : "no rule") },
    { title: "Last delivery", value: (one) => [one.last_at, one.last_ok, one.failing_since], fill: delivery },
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
    { title: "To", text: (one) => one.name },
    { title: "From", value: (one) => one.severity, fill: (one) => severity(one.severity) },
    { title: "For", text: (one) => one.text },
    { title: "Threads so far", cls: "number", text: (one) => number(one.fires) },
  ], { caption: "Rules", key: (one) => `${one.name} ${one.severity} ${one.text}`, empty: "No rule." });
  const history = table([
    { title: "When", value: (one) => one.at, fill: (one) => moment(one.at) },
    { title: "State", text: (one) => one.state },
    { title: "Severity", value: (one) => one.severity, fill: (one) => severity(one.severity) },
    { title: "What", value: (one) => [one.title, one.incident, one.run], fill: what },
    { title: "To", value: (one) => one.channels, fill: (one) => [one.channels].flat().map((each) => (typeof each === "string" ? each : each?.name ?? "")).join(", ") },
  ], { caption: "What was sent, the newest first", key: (one) => `${one.at} ${one.run} ${one.incident} ${one.state} ${one.title}`, empty: "Nothing was sent yet." });
  const threads = table([
    { title: "Since", value: (one) => one.since, fill: (one) => moment(one.since) },
    { title: "Severity", value: (one) => one.severity, fill: (one) => severity(one.severity) },
    { title: "What", value: (one) => [one.title, one.incident, one.run], fill: what },
    { title: "Now", text: (one) => [one.condition, one.silenced && "silenced", one.acknowledged_by && `acknowledged by ${one.acknowledged_by}`].filter(Boolean).join(", ") },
    { title: "Told", text: (one) => one.channels.join(", ") || "nobody yet" },
  ], { caption: "What stands now", key: (one) => one.key, empty: "Nothing stands." });
  const lists = [["Standing", threads], ["Channels", channels], ["Silences", silences], ["Sent", history], ["Rules", rules]].map(([title, node]) => h("section", null, h("h2", null, title), node));
  put(root, h("h1", null, "Alerts"), wrong, how, lists);
  const read = reader(scope, () => "/api/alerts", (body) => {
    wrong.hidden = true;
    how.hidden = !body.why;
    threads.show(body.threads);
    when(how, body.why, () => put(how, h("p", null, body.why), h("p.pad.quiet", null, "lastgood alerts test sends a test to every channel; lastgood silence quiets them for a while.")));
    lists.forEach((node) => { node.hidden = !body.configured; });
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

function what(one) {
  const title = one.run && one.incident ? h("a", { href: incidentPath(one.run, one.incident) }, one.title) : one.title;
  return [title, one.run ? h("span.sub", null, h("a", { href: runPath(one.run) }, one.run)) : null];
}

function delivery(one) {
  if (one.failing_since !== null) return [verdict(false, "failing"), " since ", moment(one.failing_since)];
  return one.last_ok === null ? "none yet" : [verdict(true, "delivered"), " ", moment(one.last_ok)];
}
