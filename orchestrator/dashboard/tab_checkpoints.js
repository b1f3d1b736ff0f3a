// What can the run go back to, and how far is each checkpoint trusted?

import { button, own } from "./actions.js";
import { h, put, say, table } from "./dom.js";
import { reader } from "./feed.js";
import { bytes, moment, number, trust } from "./words.js";

export function checkpoints(panel, { id, base, scope }) {
  let actions = [];
  const wrong = h("p.notice.bad", { hidden: true });
  const list = table([
    { title: "Step", cls: "number", text: (one) => number(one.step) },
    { title: "State", value: (one) => [one.state, one.pinned], fill: (one) => [trust(one.state), one.pinned ? h("span.sub", null, "pinned") : null] },
    { title: "Usable", text: (one) => (one.usable ? "yes" : "no") },
    { title: "Saved", value: (one) => one.saved_at, fill: (one) => moment(one.saved_at) },
    { title: "World", cls: "number", text: (one) => number(one.world) },
    { title: "Size", cls: "number", text: (one) => bytes(one.bytes) },
    { title: "Tier", text: (one) => (one.copies ?? [one.tier]).join(", ") },
    { title: "Name", cls: "text.mono", text: (one) => one.name },
    { title: "", value: (one) => [one.pinned, one.usable, actions], fill: (one) => does(id, one, actions) },
  ], { caption: "Checkpoints, the newest first", key: (one) => one.name, empty: "No checkpoint yet: a fault now would cost everything since the start, but for copies in memory." });
  list.classList.add("middle");
  put(panel, wrong, list, h("p.quiet.pad", null, "committed: whole on disk · verified: read back · good: enough healthy steps followed · tainted: saved after a fault began · corrupt: its bytes differ from its digests"));
  let found = [];
  const read = reader(scope, () => `${base}/checkpoints`, (body) => { wrong.hidden = true; found = body.checkpoints; list.show(found); },
    { least_ms: 1000, fail: (error) => { wrong.hidden = false; say(wrong, error.message); } });
  read();
  return {
    told(body) { actions = body.actions; list.show(found); },
    heard(part, since) { if (part === "checkpoints" || part === "all") read(since); },
  };
}

function does(id, one, actions) {
  const found = [];
  const resume = actions.find((each) => each.action === "resume");
  if (resume?.allowed && one.usable) found.push(button({ ...resume, cli: `lastgood resume ${id} --from-step ${one.step}` }, { run: id, text: "Resume from here", step: one.step }));
  found.push(button(own("pin", `lastgood ckpt ${one.pinned ? "unpin" : "pin"} ${id} ${one.name}`), { run: id, checkpoint: one.name, unpin: one.pinned, text: one.pinned ? "Unpin" : "Pin" }));
  return h("div.row", null, found);
}
