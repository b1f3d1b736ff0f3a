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
    say(range, `${DATE.format(new Date(body.from * 1000))} to ${DATE.format(new Date(body.to * 1000))}, ${plural(body.runs, "run")}`);
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

const FIGURES = [
  ["Interruptions", (body) => number(body.interruptions.reduce((sum, one) => sum + one.count, 0)), (body) => plural(body.interruptions.reduce((sum, one) => sum + one.drills, 0), "drill") + " besides"],
  ["By itself", (body) => share(body.automatic_share), () => "recovered without a person"],
  ["ETTR", (body) => share(body.ettr), (body) => `p50 ${share(body.ettr_runs.p50)}, p90 ${share(body.ettr_runs.p90)}`],
  ["Goodput", (body) => share(body.goodput), () => "of the time with devices"],
  ["MTTF", (body) => span(body.mttf_s), () => "training per interruption"],
  ["MTTR", (body) => span(body.mttr_s), () => "onset to first new step"],
  ["Precision", (body) => share(body.precision.share), ({ precision }) => `${precision.right} right, ${precision.wrong} wrong, ${precision.unjudged} not judged`],
  ["Steps lost", (body) => number(body.steps_lost), (body) => `of ${number(body.gpu_hours)} GPU-hours`],
  ["Energy", (body) => (body.energy_kwh === null ? "–" : `${number(body.energy_kwh)} kWh`), (body) => money(body.money)],
];

function money(one) {
  const amount = one?.amount ?? one?.total;
  return typeof amount === "number" ? `${number(amount)} ${one.currency ?? ""}` : "no prices";
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
