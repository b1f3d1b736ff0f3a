// What can a person do, and what will happen then? A dialog that says so, with the same as a command to copy.

import { h, put, say } from "./dom.js";
import { post, session } from "./feed.js";
import { icon } from "./words.js";

/** action → [button, title, what will happen, look of the last button] */
const WORDS = {
  stop: ["Stop", "Stop this run", "Its ranks save once more, then all of its processes end. The run stays stopped until somebody resumes it; nothing is deleted.", "danger", "stop"],
  pause: ["Pause", "Pause this run", "Its ranks save once more, then all of its processes end and its devices are free. It waits until somebody resumes it.", "first", "pause"],
  resume: ["Resume", "Resume this run", "It is submitted to the scheduler again and goes on from the newest checkpoint that may be trusted.", "first", "run"],
  restart: ["Restart …", "Restart this run", "Its ranks are ended and started anew from the newest checkpoint that may be trusted; a node that you leave out is given no ranks again.", "danger", "recover"],
  acknowledge: ["Acknowledge", "Acknowledge this incident", "Everybody sees that you look after it, and it is not escalated to others. The run itself is not touched.", "first", "done"],
  resolve: ["Resolve", "Resolve this incident", "It counts as over for people and alerts, though the run may not be past where it struck. The run itself is not touched.", "first", "done"],
  note: ["Add a note", "Add a note", "The note is kept in the journal with your name and the time. Write no secrets.", "first", "info"],
  judge: ["Was this verdict right?", "Was this verdict right?", "Your answer counts in the precision of the detectors in the reports. The run itself is not touched.", "first", "info"],
  pin: ["Pin", "Pin this checkpoint", "It is never deleted by lastgood until it is unpinned.", "first", "pin"],
};

/** Buttons for what a server says may be done; what may not says why. `subject`: {run, incident, nodes, step}. */
export function buttons(allowed, subject) {
  return allowed.filter((one) => WORDS[one.action]).map((one) => button(one, subject));
}

/** What may be done at any time, by those who may act at all. */
export function own(action, cli) {
  const allowed = session.role === "operator";
  return { action, allowed, why: allowed ? "" : "a viewer cannot act", cli };
}

export function button(one, subject) {
  const [text, , , , shape] = WORDS[one.action];
  const props = one.allowed
    ? { onclick: () => open(one, subject), title: subject.title ?? "" }
    : { "aria-disabled": "true", title: one.why, onclick: () => announce(one.why) };
  return h("button", { ...props, "data-action": one.action }, icon(shape), subject.text ?? text,
    one.allowed ? null : h("span.skip", null, `: ${one.why}`));
}

function open(one, subject) {
  const [, title, what, look] = WORDS[one.action];
  const form = FIELDS[one.action]?.(subject) ?? { nodes: [], body: () => ({}), cli: (text) => text };
  const command = h("code");
  const why = h("p.bad", { role: "alert" });
  const go = h(`button.${look}`, { type: "submit" }, subject.unpin ? "Unpin" : title.replace(/ this .*/, "").replace("Was verdict right?", "Save"));
  const told = () => say(command, form.cli(one.cli));
  const dialog = h("dialog", { "aria-labelledby": "action-title" },
    h("form", { method: "dialog", oninput: told, onsubmit: (event) => send(event, dialog, one, subject, form, go, why) },
      h("h2", { id: "action-title" }, title),
      h("p", null, what), subject.sentence ? h("p.quiet", null, subject.sentence) : null,
      form.nodes,
      h("div", null, h("label", null, h("span", null, "The same as a command")), h("div.cli", null, command, copy(() => command.textContent))),
      why,
      h("div.end", null, h("button", { type: "button", onclick: () => dialog.close() }, "Cancel"), go)));
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  told();
  dialog.showModal();
  (dialog.querySelector("textarea, select, input") ?? go).focus();
}

async function send(event, dialog, one, subject, form, go, why) {
  event.preventDefault();
  go.disabled = true;
  say(why, "");
  try {
    const body = { ...(subject.incident ? { incident: subject.incident } : {}), ...form.body() };
    const answer = await post(`/api/runs/${encodeURIComponent(subject.run)}/actions/${one.action}`, body);
    dialog.close();
    announce(answer.done);
    dispatchEvent(new CustomEvent("lastgood:acted", { detail: one.action }));
  } catch (error) {
    say(why, error.message);
  }
  go.disabled = false;
}

/** What each action asks besides: fields, the body they make, and the command they make. */
const FIELDS = {
  stop() {
    const now = h("input", { type: "checkbox", name: "now" });
    return {
      nodes: [h("label.check", null, now, h("span", null, "At once, without a last save"))],
      body: () => ({ now: now.checked }),
      cli: (text) => bare(text) + (now.checked ? " --now" : ""),
    };
  },
  pause() {
    const why = h("input", { name: "why", maxlength: "500" });
    return { nodes: [h("label", null, h("span", null, "Why (others read it)"), why)], body: () => ({ why: why.value.trim() }), cli: (text) => bare(text) + (why.value.trim() ? ` ${quoted(why.value.trim())}` : "") };
  },
  resume({ step: from = "" }) {
    const step = h("input", { type: "number", name: "from_step", min: "0", step: "1", placeholder: "newest", value: String(from) });
    const value = () => (step.value === "" ? null : Number(step.value));
    return {
      nodes: [h("label", null, h("span", null, "From step (empty: the newest trusted checkpoint; 0: afresh)"), step)],
      body: () => ({ from_step: value() }),
      cli: (text) => bare(text).replace(/ --from-step.*/, "") + (value() === null ? "" : ` --from-step ${value()}`),
    };
  },
  restart({ nodes = [] }) {
    const without = h("select", { name: "without" }, h("option", { value: "" }, "all nodes as before"),
      nodes.map((node) => h("option", { value: node.node }, `without node ${node.node}${node.host ? ` (${node.host})` : ""}`)));
    const value = () => (without.value === "" ? null : Number(without.value));
    return {
      nodes: [h("label", null, h("span", null, "Nodes"), without)],
      body: () => ({ without: value() }),
      cli: (text) => bare(text) + (value() === null ? "" : ` --exclude ${value()}`),
    };
  },
  resolve() {
    const text = h("textarea", { name: "text", maxlength: "4000", placeholder: "How? (optional)" });
    return { nodes: [h("label", null, h("span", null, "What was done"), text)], body: () => ({ text: text.value.trim() }), cli: (cli) => cli.replace(/ (TEXT|'TEXT')$/, "") + (text.value.trim() ? ` ${quoted(text.value.trim())}` : "") };
  },
  note() {
    const text = h("textarea", { name: "text", maxlength: "4000", required: true });
    return { nodes: [h("label", null, h("span", null, "Note"), text)], body: () => ({ text: text.value.trim() }), cli: (cli) => cli.replace("TEXT", quoted(text.value.trim() || "TEXT")) };
  },
  judge({ right }) {
    const choice = h("select", { name: "right" }, h("option", { value: "right" }, "Right: that is what it was"), h("option", { value: "wrong" }, "Wrong: it was something else, or nothing"));
    if (right === false) choice.value = "wrong";
    const text = h("textarea", { name: "text", maxlength: "4000", placeholder: "What was it really? (optional)" });
    return {
      nodes: [h("label", null, h("span", null, "Verdict"), choice), h("label", null, h("span", null, "Why"), text)],
      body: () => ({ right: choice.value === "right", text: text.value.trim() }),
      cli: (cli) => `${cli.replace(/\s+(right|wrong)\b.*$/, "")} ${choice.value}${text.value.trim() ? ` ${quoted(text.value.trim())}` : ""}`,
    };
  },
  pin({ checkpoint, unpin }) {
    return { nodes: [h("p.mono", null, checkpoint)], body: () => ({ checkpoint, pinned: !unpin }), cli: (cli) => cli };
  },
};

/** Without what is only sometimes given. */
const bare = (cli) => cli.replace(/\s*\[.*$/, "").replace(/\s+--(exclude|from-step) (NODE|N)$/, "");
const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

export function copy(text) {
  const node = h("button.plain", { type: "button", title: "Copy", onclick: async () => {
    try {
      await navigator.clipboard.writeText(text());
      announce("Copied.");
    } catch {
      announce("The browser does not let this page copy: select the text.");
    }
  } }, "Copy");
  return node;
}

/** One sentence at the foot of the page, also for those who listen to it. */
export function announce(text) {
  const line = h("p", null, text);
  const said = document.getElementById("said");
  put(said, line);
  setTimeout(() => line.remove(), 8000);
}

