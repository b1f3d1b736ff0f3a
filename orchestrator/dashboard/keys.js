// What can be done without a mouse? Everything; this is the list, and what the keys do.

import { turnTheme } from "./bar.js";
import { h } from "./dom.js";
import { go } from "./paths.js";

const KEYS = [
  ["/", "search"],
  ["g r", "runs"], ["g n", "nodes"], ["g a", "alerts"], ["g p", "reports"],
  ["j k", "next, previous row of a table; Enter opens it"],
  ["1 … 6", "tabs of a run: events, logs, ranks, checkpoints, config, incidents"],
  ["[ ]", "previous, next incident of the run"],
  ["u", "up: from an incident to its run, from a run to all runs"],
  ["← → + − 0", "on the timeline: move, zoom in, zoom out, all"],
  ["a", "actions of the run or incident"],
  ["t", "dark or light"],
  ["?", "this list"],
  ["Esc", "close"],
];
const PLACES = { r: "/", n: "/nodes", a: "/alerts", p: "/reports" };

let going = 0; // until when a letter after `g` says where to

export function keyboard() {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    if (event.target.closest("input, textarea, select, dialog, [data-keys]")) return;
    if (pressed(event.key)) event.preventDefault();
  });
}

function pressed(key) {
  if (performance.now() < going && PLACES[key]) {
    going = 0;
    go(PLACES[key]);
    return true;
  }
  if (key === "g") {
    going = performance.now() + 1500;
    return true;
  }
  const does = {
    "/": () => document.getElementById("search")?.focus(),
    "?": help,
    t: turnTheme,
    j: () => move(1),
    k: () => move(-1),
    u: () => document.querySelector(".crumb a")?.click(),
    a: () => document.querySelector(".actions button")?.focus(),
    "[": () => document.querySelector("[data-step='-1']")?.click(),
    "]": () => document.querySelector("[data-step='1']")?.click(),
  }[key] ?? (/^[1-6]$/.test(key) && (() => document.querySelectorAll(".tabs a")[Number(key) - 1]?.click()));
  if (!does) return false;
  does();
  return true;
}

/** The focus goes from row to row, through all tables of the page. */
function move(step) {
  const links = [...document.querySelectorAll("main tbody tr")].map((row) => row.querySelector("a")).filter((link) => link?.offsetParent);
  if (!links.length) return;
  const row = document.activeElement.closest?.("tr");
  const now = links.findIndex((link) => link.closest("tr") === row);
  links[now < 0 ? (step > 0 ? 0 : links.length - 1) : Math.max(0, Math.min(links.length - 1, now + step))].focus();
}

export function help() {
  const dialog = h("dialog", { "aria-labelledby": "keys-title" },
    h("form", { method: "dialog" },
      h("h2", { id: "keys-title" }, "Keys"),
      h("dl.keys", null, KEYS.map(([keys, what]) => [h("dt", null, keys.split(" ").map((key) => [h("kbd", null, key), " "])), h("dd", null, what)])),
      h("div.end", null, h("button.first", null, "Close"))));
  document.body.append(dialog);
  dialog.addEventListener("close", () => dialog.remove());
  dialog.showModal();
}
