// Which page is shown? The address says it; the bar above is always there.

import { bar, rememberTheme } from "./bar.js";
import { h, put } from "./dom.js";
import { Scope, openSession, session, stream } from "./feed.js";
import { attend } from "./fleet.js";
import { keyboard } from "./keys.js";
import { alerts } from "./page_alerts.js";
import { home } from "./page_home.js";
import { incident } from "./page_incident.js";
import { login } from "./page_login.js";
import { nodes } from "./page_nodes.js";
import { reports } from "./page_reports.js";
import { run } from "./page_run.js";

const main = document.getElementById("main");
let shown = null; // {key, scope, page}

/** {page, key, run, tab, incident, query}: what an address asks for; `key` stays while only a tab of it changes. */
function route(url) {
  const [top = "", id, tab, which] = url.pathname.split("/").slice(1).map(decodeURIComponent);
  const query = url.searchParams;
  if (top === "runs" && id && tab === "incidents" && which) return { page: incident, key: `${id}/${which}`, run: id, incident: which, query };
  if (top === "runs" && id) return { page: run, key: `run ${id}`, run: id, tab: tab || "events", query };
  const page = { "": home, runs: home, nodes, alerts, reports, login }[top];
  return { page: page ?? nowhere, key: top || "runs", query };
}

function nowhere(root) {
  put(root, h("h1", null, "No such page"), h("p.pad", null, h("a", { href: "/" }, "All runs")));
}

function show() {
  const wanted = route(new URL(location.href));
  const page = session.role ? wanted.page : login;
  const key = session.role ? wanted.key : "login";
  if (shown?.key === key && shown.page?.turn) return shown.page.turn(wanted);
  shown?.scope.close();
  if (session.role) attend();
  const scope = new Scope();
  document.title = "lastgood";
  main.replaceChildren();
  shown = { key, scope, page: page(main, wanted, scope) };
  dispatchEvent(new Event("lastgood:page"));
}

/** Goes to an address of this server without loading the page anew. */
function go(path, replace = false) {
  const before = location.pathname;
  history[replace ? "replaceState" : "pushState"](null, "", path);
  show();
  if (!replace && location.pathname !== before && !shown.page?.turn) {
    scrollTo(0, 0);
    main.focus({ preventScroll: true });
  }
}

addEventListener("popstate", show);
addEventListener("lastgood:go", (event) => go(event.detail.path, event.detail.replace));
addEventListener("lastgood:login", async () => {
  stream.close();
  session.role = null;
  await openSession().catch(() => {});
  show();
});
document.addEventListener("click", (event) => {
  const link = event.target.closest("a[href]");
  const plain = event.button === 0 && !event.metaKey && !event.ctrlKey && !event.shiftKey && !event.altKey;
  const path = link?.getAttribute("href");
  if (!link || !plain || event.defaultPrevented || link.target || link.hasAttribute("download") || !path.startsWith("/")) return;
  event.preventDefault();
  go(path);
});

async function begin() {
  try {
    await openSession();
  } catch (error) {
    put(main, h("h1", null, "Nobody answers"), h("p.pad", null, error.message), h("p.quiet", null, "Trying again …"));
    setTimeout(begin, 2000);
    return;
  }
  bar(document.getElementById("bar"));
  keyboard();
  show();
}

rememberTheme();
begin();
