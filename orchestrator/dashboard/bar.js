// What is always in sight: how many runs need a person, whether anybody watches, a search, the theme.

import { h, put, say, when } from "./dom.js";
import { Scope, post, session, stream } from "./feed.js";
import { fleet, groups } from "./fleet.js";
import { help } from "./keys.js";
import { search } from "./search.js";
import { icon, span, time } from "./words.js";

const PAGES = [["/", "Runs"], ["/nodes", "Nodes"], ["/alerts", "Alerts"], ["/reports", "Reports"]];
const STALE_S = 9; // it says so every two or three seconds, and the stream tells at least each 2 s

export function bar(root) {
  const scope = new Scope();
  const pill = h("a.pill", { href: "/", "aria-live": "polite" });
  const quiet = h("a.pill", { href: "/alerts", hidden: true });
  const beat = h("span.beat");
  const nav = h("nav", { "aria-label": "Pages" }, PAGES.map(([href, text]) => h("a", { href }, text)));
  const who = h("span.who");
  put(root, h("div.bar", null,
    h("a.name", { href: "/", title: session.host }, "lastgood", h("span", null, ` ${session.host}`)),
    nav, pill, quiet, h("span.room"), beat, search(),
    h("button.plain.theme", { onclick: turnTheme, title: "Dark or light (t)", "aria-label": "Dark or light" }, icon("sun")),
    h("button.plain.keys-button", { onclick: help, title: "Keys (?)", "aria-label": "Keyboard help" }, "?"),
    who));
  const show = () => {
    attention(pill, groups().attention.length);
    quiet.hidden = !fleet.silences;
    say(quiet, fleet.silences === 1 ? "1 silence" : `${fleet.silences} silences`);
    heartbeat(beat);
  };
  fleet.on(show, scope);
  setInterval(() => heartbeat(beat), 1000);
  addEventListener("lastgood:stream", () => heartbeat(beat));
  addEventListener("lastgood:page", () => {
    here(nav);
    root.hidden = !session.role;
    when(who, [session.login, session.role, session.name], () => put(who, signedIn()));
  });
}

function attention(pill, count) {
  when(pill, [fleet.read, count], () => {
    pill.classList.toggle("bad", count > 0);
    const text = count === 0 ? "Nobody is needed" : count === 1 ? "1 run needs attention" : `${count} runs need attention`;
    put(pill, icon(count ? "held" : "done"), fleet.read ? text : "…");
  });
}

/** Green words would be noise: it is grey while all is well, and red when nobody watches. */
function heartbeat(node) {
  const [tone, shape, text] = freshness();
  when(node, [tone, text], () => {
    node.className = `beat badge ${tone}`;
    put(node, icon(shape), h("span", null, text));
  });
}

function freshness() {
  if (!fleet.read) return fleet.failed ? ["bad", "cross", "dashboard away"] : ["idle", "wait", "…"];
  if (!stream.connected) return ["bad", "cross", "not live"];
  const { alive, seen_at } = fleet.supervisor ?? {};
  if (!seen_at) return ["bad", "cross", "no supervisor yet"];
  const age = Math.max(0, time.now() - seen_at);
  if (!alive || age > STALE_S) return ["bad", "cross", `supervisor away ${span(Math.floor(age))}`];
  return ["idle", "done", "supervisor heard now"];
}

function here(nav) {
  for (const link of nav.children) {
    const href = link.getAttribute("href");
    const path = location.pathname;
    const same = href === "/" ? path === "/" || path.startsWith("/runs") : path.startsWith(href);
    if (same) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

function signedIn() {
  if (!session.login || !session.role) return [];
  const leave = async () => {
    await post("/api/logout", {}).catch(() => {});
    dispatchEvent(new Event("lastgood:login"));
  };
  return [h("span.quiet", null, `${session.name} (${session.role}) `), h("button.plain", { onclick: leave }, "Log out")];
}

const THEME = "lastgood-theme";

/** As chosen before; without a choice the system's. */
export function rememberTheme() {
  const chosen = localStorage.getItem(THEME);
  if (chosen) document.documentElement.dataset.theme = chosen;
}

export function turnTheme() {
  const dark = document.documentElement.dataset.theme
    ? document.documentElement.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = dark ? "light" : "dark";
  localStorage.setItem(THEME, dark ? "light" : "dark");
  dispatchEvent(new Event("lastgood:theme"));
}
