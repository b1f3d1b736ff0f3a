// How does what a run says get onto the page? Only ever as text: nothing here takes markup.

const SVG = "http://www.w3.org/2000/svg";

/** An element: h("td.number", {title: "…", onclick: f}, "text", node, [more]). */
export function h(name, props, ...children) {
  const [tag, ...classes] = name.split(".");
  const node = document.createElement(tag || "div");
  if (classes.length) node.className = classes.join(" ");
  return fill(node, props, children);
}

/** Likewise in SVG; `viewBox` and the like are attributes. */
export function svg(tag, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

function fill(node, props, children) {
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "href") node.setAttribute("href", safe(value));
    else if (name === "value" || name === "checked" || name === "disabled") node[name] = value;
    else if (name === "data") Object.assign(node.dataset, value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  add(node, children);
  return node;
}

function add(node, children) {
  for (const child of children) {
    if (Array.isArray(child)) add(node, child);
    else if (child !== null && child !== undefined && child !== false) node.append(child);
  }
}

/** Links lead within this server, or to http(s); what else a run may have written goes home. */
export function safe(href) {
  return /^(#|\/(?![/\\])|https?:\/\/)/i.test(String(href)) ? String(href) : "/";
}

/** The text of a node, touched only when it differs: what stays the same is not laid out again. */
export function say(node, text) {
  const wanted = text === null || text === undefined ? "" : String(text);
  if (node.textContent !== wanted) node.textContent = wanted;
  return node;
}

/** Other children, in place of all that were there. */
export function put(node, ...children) {
  node.replaceChildren();
  add(node, children);
  return node;
}

/** Does `change` within `node`; what had the focus there has it again: moved, or drawn anew with the same address or words. */
export function keeping(node, change) {
  const held = document.activeElement;
  const inside = node.contains(held);
  change();
  if (!inside || document.activeElement === held) return;
  const name = (one) => one.getAttribute("href") ?? one.textContent;
  const again = held.isConnected ? held : [...node.querySelectorAll(held.localName)].find((one) => name(one) === name(held));
  again?.focus({ preventScroll: true });
}

/** Calls `draw` when `value` is another one than at the last call for this node. */
export function when(node, value, draw) {
  const sign = JSON.stringify(value) ?? "";
  if (node.shown === sign) return;
  node.shown = sign;
  keeping(node, () => draw(node, value));
}

/**
 * Children of `parent`, one for each item, kept by key: rows that stay are moved only if the order changed.
 * `make(item)` gives a node, `update(node, item)` brings it up to date.
 */
export function keyed(parent, items, key, make, update) {
  const old = parent.kept ?? new Map();
  const kept = new Map();
  let before = parent.firstChild;
  for (const item of items) {
    const id = key(item);
    if (kept.has(id)) continue;
    const node = old.get(id) ?? make(item);
    old.delete(id);
    kept.set(id, node);
    update(node, item);
    if (node === before) before = before.nextSibling;
    else keeping(node, () => parent.insertBefore(node, before));
  }
  for (const node of old.values()) node.remove();
  parent.kept = kept;
}

/**
 * A table that is kept up to date: columns are {id, title, text(row)} or {…, value(row), fill(cell, row)}.
 * `fill` runs when `value` changed. The first column is the header of its row.
 */
export function table(columns, { caption, key, empty, mark, clickable }) {
  const shown = columns.filter(Boolean);
  const head = h("tr", null, shown.map((c) => h(`th.${c.cls ?? "text"}`, { scope: "col", title: c.help }, c.title)));
  const body = h("tbody");
  const nothing = h("p.quiet.pad", null, empty ?? "Nothing here.");
  const node = h("div.table", null, h("table", null, h("caption", null, caption), h("thead", null, head), body), nothing);
  const make = () => h("tr", null, shown.map((c, n) => h(`${n ? "td" : "th"}.${c.cls ?? "text"}`, n ? { data: { title: c.title } } : { scope: "row" })));
  const update = (row, item) => {
    if (clickable) row.dataset.href = "";
    if (mark) row.className = mark(item) ?? "";
    shown.forEach((c, n) => {
      const cell = row.children[n];
      if (c.text) say(cell, c.text(item));
      else when(cell, c.value ? c.value(item) : item, () => put(cell, c.fill(item)));
    });
  };
  if (clickable) body.addEventListener("click", (event) => {
    const row = event.target.closest("tr");
    if (row && !event.target.closest("a, button, input") && !String(getSelection())) row.querySelector("a")?.click();
  });
  node.show = (rows) => {
    keyed(body, rows, key, make, update);
    nothing.hidden = rows.length > 0;
    node.firstChild.hidden = rows.length === 0;
  };
  return node;
}
