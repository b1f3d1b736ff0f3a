// Which stretch of time is shown? One answer for the timeline and all charts under it.

const DAY = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });
const MINUTE = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const SECOND = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800, 1209600, 2592000];
const LEAST_S = 2;

/** A range of time that listeners share. `last_s`: follows the newest seconds; both null: all there is. */
export class Axis {
  whole = [0, 1];
  fixed = null;
  last_s = null;
  listeners = new Set();

  get range() {
    if (this.fixed) return this.fixed;
    const [from, to] = this.whole;
    return this.last_s ? [Math.max(from, to - this.last_s), to] : [from, to];
  }

  /** From the beginning of the run to now or its end. */
  reach(from, to) {
    if (from === this.whole[0] && to === this.whole[1]) return;
    this.whole = [from, Math.max(to, from + LEAST_S)];
    if (!this.fixed) this.tell(false);
  }

  /** Shows exactly these times; all, when that is what they are. */
  zoom(from, to) {
    const [first, last] = this.whole;
    const long = Math.max(LEAST_S, Math.min(to - from, last - first));
    const begin = Math.max(first, Math.min(from, last - long));
    const all = long >= (last - first) * 0.999;
    this.fixed = all ? null : [begin, begin + long];
    this.last_s = null;
    this.tell(true);
  }

  follow(last_s) {
    this.fixed = null;
    this.last_s = last_s;
    this.tell(true);
  }

  /** Zooms by a factor around a time (the middle), or moves by a share of the range. */
  scale(factor, around = null) {
    const [from, to] = this.range;
    const middle = around ?? (from + to) / 2;
    this.zoom(middle - (middle - from) * factor, middle + (to - middle) * factor);
  }

  move(share) {
    const [from, to] = this.range;
    this.zoom(from + (to - from) * share, to + (to - from) * share);
  }

  tell(asked) {
    for (const hear of this.listeners) hear(this.range, asked);
  }
}

/** Times for labels, about 90 pixels apart, at round moments of the reader's clock. */
export function ticks(from, to, width) {
  const wanted = ((to - from) * 92) / Math.max(1, width);
  const longest = STEPS.at(-1);
  const step = STEPS.find((one) => one >= wanted) ?? Math.ceil(wanted / longest) * longest;
  const zone = new Date(from * 1000).getTimezoneOffset() * 60;
  const found = [];
  for (let at = Math.ceil((from - zone) / step) * step + zone; at <= to; at += step) found.push(at);
  return { step, found };
}

export function label(at, step) {
  const moment = new Date(at * 1000);
  if (step >= 86400) return DAY.format(moment);
  const midnight = moment.getHours() === 0 && moment.getMinutes() === 0 && moment.getSeconds() === 0;
  if (midnight) return DAY.format(moment);
  return step >= 60 ? MINUTE.format(moment) : SECOND.format(moment);
}
