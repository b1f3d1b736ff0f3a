// How did the week go? What interrupted runs, what came back by itself, and how often was lastgood right?

import { colour, pen, repaint } from "./canvas.js";
import { h, put, say, table, when } from "./dom.js";
import { reader, stream } from "./feed.js";
import { kind, number, plural, share, span } from "./words.js";

const DAY = new Intl.DateTimeFormat("en-GB", { weekday: "short", day: "numeric", month: "short" });
const DATE = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium" });

export function reports(root, route, scope) {
  stream.open(null);
  let days = 7;
  const wrong = h("p.notice.bad", { hidden: true });
  const choice = [7, 30].map((count) => h("a.button", { href: `/reports?days=${count}`, role: "button" }, `${count} days`));
  const range = h("p.quiet");
  const strip = h("dl.kpis", null, FIGURES.map(([name]) => h("div", null, h("dt", null, name), h("dd", null, "–"), h("div.sub", null, "\u00a0"))));
  const causes = table([
    { title: "Cause", text: (one) => kind(one.kind) },
    { title: "Blame", text: (one) => kind(one.blame ?? "unknown") },
    { title: "Interruptions", cls: "number", text: (one) => number(one.count) },
    { title: "Share", cls: "number", text: (one) => share(one.share) },
    { title: "Time lost", cls: "number", text: (one) => span(one.lost_s) },
    { title: "MTTR", cls: "number", help: "mean time from the onset to the first new step", text: (one) => span(one.mttr_s) },
    { title: "Drills", cls: "number", help: "faults on purpose, counted apart", text: (one) => number(one.drills) },
  ], { caption: "Interruptions by cause", key: (one) => `${one.kind} ${one.blame}`, empty: "Nothing interrupted a run in this time." });
  const daily = h("div.bars.sheet");
  put(root, h("div.row.wide", null, h("h1", null, "Reports"), h("div.row.no-print", null, choice, h("button", { onclick: () => print() }, "Print"))), range, wrong, strip,
    h("section", null, h("h2", null, "Interruptions by cause"), causes), h("section", null, h("h2", null, "Interruptions by day"), daily));
  const read = reader(scope, () => `/api/reports?days=${days}`, (body) => {
    wrong.hidden = true;
    say(range, `${DATE.format(new Date(body.since * 1000))} to ${DATE.format(new Date(body.until * 1000))}, ${plural(body.runs, "run")}`);
    FIGURES.forEach(([, value, sub], n) => {
      say(strip.children[n].children[1], value(body));
      say(strip.children[n].children[2], sub(body) || "\u00a0");
    });
    causes.show(body.interruptions);
    when(daily, body.per_day, () => put(daily, bars(body.per_day)));
  }, { least_ms: 5000, fail: (error) => { wrong.hidden = false; say(wrong, error.message); } });
  function turn(next) {
    days = next.query.get("days") === "30" ? 30 : 7;
    document.title = `Report of ${days} days · lastgood`;
    choice.forEach((link, n) => link.setAttribute("aria-pressed", String([7, 30][n] === days)));
    choice.forEach((link, n) => link.classList.toggle("chosen", [7, 30][n] === days));
    read();
  }
  stream.on("reset", (_, since) => read(since), scope);
  scope.every(60, () => document.hidden || read());
  turn(route);
  return { turn };
}

const total = (list, name) => list.reduce((sum, one) => sum + one[name], 0);

const FIGURES = [
  ["Interruptions", (body) => number(total(body.interruptions, "count")), (body) => plural(total(body.interruptions, "drills"), "drill") + " besides"],
  ["By itself", (body) => share(body.automatic_share), (body) => `${number(body.automatic)} alone, ${number(body.with_person)} with a person`],
  ["ETTR", (body) => share(body.ettr), (body) => `p50 ${share(body.ettr_p50)}, p10 ${share(body.ettr_p10)}`],
  ["Goodput", (body) => share(body.goodput), () => "of the time with devices"],
  ["MTTF", (body) => span(body.mttf_s), () => "training per interruption"],
  ["MTTR", (body) => span(body.mttr_p50_s), (body) => `p50; p90 ${span(body.mttr_p90_s)}`],
  ["Precision", ({ judged }) => precision(total(judged, "right"), total(judged, "wrong")), (body) => `${total(body.judged, "right")} right, ${total(body.judged, "wrong")} wrong, ${body.unjudged} not judged`],
  ["Steps lost", (body) => number(body.steps_lost), (body) => `of ${number(body.gpu_hours)} GPU-hours`],
  ["Energy", (body) => `${number(energy(body.bills))} kWh`, () => "as far as it was read"],
  ["Cost", (body) => money(body.bills), (body) => (body.bills.some((one) => one.currency === null) ? "and runs without prices" : "")],
];

const precision = (right, wrong) => share(right + wrong ? right / (right + wrong) : null);
const energy = (bills) => (bills.some((one) => one.kwh !== null) ? bills.reduce((sum, one) => sum + (one.kwh ?? 0), 0) : null);

function money(bills) {
  const paid = bills.filter((one) => one.money !== null && one.currency);
  return paid.map((one) => `${number(one.money)} ${one.currency}`).join(", ") || "–";
}

function bars(days) {
  const most = Math.max(1, ...days.map((one) => one.count));
  return days.map((one) => {
    const bar = h("canvas", { "aria-hidden": "true" });
    const paint = () => {
      const context = pen(bar, 600, 14);
      context.fillStyle = colour("sunk");
      context.fillRect(0, 0, 600, 14);
      context.fillStyle = colour("curve");
      context.fillRect(0, 0, (600 * one.count) / most, 14);
    };
    paint();
    repaint(bar, paint);
    return [h("span", null, DAY.format(new Date(one.day * 1000))), bar, h("span.number", null, number(one.count))];
  });
}
