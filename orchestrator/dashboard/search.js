// Where do I find it? Runs by id, name, state or reason, and the pages.

import { h, put } from "./dom.js";
import { fleet } from "./fleet.js";
import { go } from "./paths.js";

const MOST = 8;
const PAGES = [["/", "Runs"], ["/nodes", "Nodes"], ["/alerts", "Alerts"], ["/reports", "Reports"]];

/** An input with a list of what matches: arrows choose, Enter goes. */
export function search() {
  const list = h("ul", { role: "listbox", id: "found", hidden: true, "aria-label": "Found" });
  const input = h("input", {
    type: "search", placeholder: "Search ( / )", "aria-label": "Search runs and pages", role: "combobox",
    "aria-expanded": "false", "aria-controls": "found", autocomplete: "off", spellcheck: "false", id: "search",
  });
  let found = [];
  let chosen = 0;
  const show = () => {
    found = input.value.trim() ? matches(input.value.trim().toLowerCase()) : [];
    chosen = Math.min(chosen, Math.max(0, found.length - 1));
    list.hidden = found.length === 0;
    input.setAttribute("aria-expanded", String(!list.hidden));
    put(list, found.map((one, n) => h("li", {
      role: "option", id: `found-${n}`, "aria-selected": String(n === chosen), onpointerdown: (event) => { event.preventDefault(); open(n); },
    }, h("span", null, one.text), h("span.quiet", null, one.what))));
    if (found.length) input.setAttribute("aria-activedescendant", `found-${chosen}`);
    else input.removeAttribute("aria-activedescendant");
  };
  const open = (n) => {
    const one = found[n];
    input.value = "";
    show();
    input.blur();
    if (one) go(one.path);
  };
  input.addEventListener("input", () => { chosen = 0; show(); });
  input.addEventListener("blur", () => { list.hidden = true; });
  input.addEventListener("focus", show);
  input.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step && found.length) {
      chosen = (chosen + step + found.length) % found.length;
      show();
      event.preventDefault();
    } else if (event.key === "Enter") open(chosen);
    else if (event.key === "Escape") { input.value = ""; show(); input.blur(); }
  });
  return h("div.search", null, input, list);
}

function matches(text) {
  const runs = [...fleet.rows.values()]
    .filter((row) => [row.run, row.name, row.state, row.reason].some((part) => String(part).toLowerCase().includes(text)))
    .sort((a, b) => Number(!a.run.startsWith(text)) - Number(!b.run.startsWith(text)) || b.submitted_at - a.submitted_at)
    .slice(0, MOST)
    .map((row) => ({ text: row.run, what: row.state, path: `/runs/${encodeURIComponent(row.run)}` }));
  const pages = PAGES.filter(([, name]) => name.toLowerCase().startsWith(text)).map(([path, name]) => ({ text: name, what: "page", path }));
  return [...runs, ...pages];
}
