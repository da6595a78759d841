// What is drawn where: the rows of the view, and the spans in each lane.

const EXECUTION = 0, GATHER = 1, WAIT = 2;
const BAD = new Set(["failure", "network failure", "unreadable"]);
const FAINT = new Set(["cancelled", "reschedule", "busy"]);

// Tol's scheme "light": told apart by all kinds of eyes, with dark letters on it.
const PALETTE = ["#77aadd", "#44bb99", "#eedd88", "#ffaabb", "#bbcc33", "#99ddff", "#aaaa00"];
const OTHERS = "#c9c9c9";

const FOLDED = 4;
const LANE = 20, HEADING = 28, GUTTER = 176, OVERVIEW = 46, AXIS = 26, MARKS = 24;

const CHARTS = [
  { title: "Tasks to do", height: 78, stacked: true, unit: grouped, series: [
    ["executing", "executing"], ["ready", "ready"], ["waiting", "waiting"],
    ["flight", "flight"], ["fetch", "fetch"], ["missing", "missing"]] },
  { title: "Tasks done", height: 46, unit: grouped, series: [["memory", "memory"], ["error", "missing"]] },
  { title: "Bytes", height: 46, unit: bytes, series: [["nbytes", "memory"], ["incoming", "flight"]] },
];
const SERIES = { flight: "in flight", fetch: "to fetch", memory: "in memory", error: "failed",
                 nbytes: "in memory", incoming: "in flight" };

// All spans as columns: what kind, which row of which table, when, in which lane, how it ended.
function gatherSpans(tables) {
  const parts = [tables.executions, tables.gathers, tables.waits];
  const length = parts.reduce((sum, part) => sum + part.length, 0);
  const spans = { length, kind: new Uint8Array(length), row: new Int32Array(length),
                  begin: new Float64Array(length), end: new Float64Array(length),
                  lane: new Int32Array(length), outcome: new Int32Array(length) };
  let span = 0;
  parts.forEach((part, kind) => {
    for (let row = 0; row < part.length; row++, span++) {
      spans.kind[span] = kind;
      spans.row[span] = row;
      spans.begin[span] = part.begin[row];
      spans.end[span] = part.begin[row] + part.duration[row];
      spans.lane[span] = part.lane[row];
      spans.outcome[span] = part.outcome[row];
    }
  });
  return spans;
}

// The lanes with their spans, in order, and with sums that answer for any stretch of them at once.
function layLanes(tables, spans, texts) {
  const rowsOf = indexBy(spans.lane, tables.lanes.length);
  const bad = texts.map((text) => BAD.has(text));
  const lanes = [];
  for (let lane = 0; lane < tables.lanes.length; lane++) {
    const { begin, end } = spans;
    const order = rowsOf(lane).slice().sort((a, b) => begin[a] - begin[b] || end[a] - end[b] || a - b);
    const count = order.length;
    const laid = { group: texts[tables.lanes.group[lane]], name: texts[tables.lanes.name[lane]],
                   number: tables.lanes.number[lane], spans: order, extra: 0,
                   begin: new Float64Array(count), end: new Float64Array(count),
                   busy: new Float64Array(count + 1), bad: new Int32Array(count + 1) };
    for (let place = 0; place < count; place++) {
      const span = order[place];
      laid.begin[place] = begin[span];
      laid.end[place] = end[span];
      laid.busy[place + 1] = laid.busy[place] + end[span] - begin[span];
      laid.bad[place + 1] = laid.bad[place] + bad[spans.outcome[span]];
    }
    const slots = tables.about.slots[laid.name];
    if (laid.group === "slots" && laid.number >= slots) laid.extra = laid.number + 1 - slots;
    lanes.push(laid);
  }
  const groups = ["slots", "peers", "timers"];
  return lanes.sort((a, b) => groups.indexOf(a.group) - groups.indexOf(b.group) ||
    (a.name < b.name ? -1 : a.name > b.name ? 1 : a.number - b.number));
}

// Lanes beyond the slots are of attempts that had none: handed over early, or given back.
function laneTitle(lane) {
  if (lane.group === "slots") {
    return lane.extra ? `${lane.name} +${lane.extra}` : `${lane.name} ${lane.number + 1}`;
  }
  if (lane.group === "timers") return "asking who holds them";
  return lane.number ? `${lane.name} (${lane.number + 1})` : lane.name;
}

// Many lanes beyond the slots of an executor are folded into one row, until somebody opens it.
function foldOf(lanes, name) {
  const extra = lanes.filter((lane) => lane.name === name && lane.extra);
  return extra.length > FOLDED ? { name, lanes: extra } : null;
}

// When the spans of a fold begin and end, sorted: so many overlap a stretch as have begun before its
// end, less those that have ended before its begin.
function stackUp(fold, spans, wanted = () => true) {
  const found = [];
  for (const lane of fold.lanes) for (const span of lane.spans) if (wanted(span)) found.push(span);
  fold.begins = Float64Array.from(found, (span) => spans.begin[span]).sort();
  fold.ends = Float64Array.from(found, (span) => spans.end[span]).sort();
}

// The rows from top to bottom, each with its place; they scroll together below the axis.
function layRows(lanes, folds, tables) {
  const rows = [];
  let top = 6;
  const add = (row, height) => {
    rows.push({ ...row, top, height });
    top += height;
  };
  for (const chart of CHARTS) add({ kind: "chart", chart, title: chart.title }, chart.height);
  if (tables.marks.length) add({ kind: "marks", title: "Marks" }, MARKS);
  const titles = { slots: "Slots", peers: "Peers", timers: "Missing inputs" };
  let group = null;
  let folded = null;
  for (const lane of lanes) {
    if (lane.group !== group) {
      group = lane.group;
      const size = lanes.filter((other) => other.group === group).length;
      add({ kind: "heading", title: titles[group], size: group === "timers" ? "" : counted(size, "lane") }, HEADING);
    }
    const fold = lane.extra ? folds.get(lane.name) : undefined;
    if (fold && fold !== folded) {
      folded = fold;
      add({ kind: "fold", fold, title: `${fold.open ? "▾" : "▸"} ${lane.name} +${fold.lanes.length}` }, LANE);
    }
    if (!fold || fold.open) add({ kind: "lane", lane, title: laneTitle(lane) }, LANE);
  }
  return { rows, height: top + 12 };
}

// The colour of each prefix: the most frequent ones have their own.
function paint(tables, texts) {
  const counts = new Map();
  for (const prefix of tables.executions.prefix) counts.set(prefix, (counts.get(prefix) || 0) + 1);
  const ranked = [...counts].sort((a, b) => b[1] - a[1] || (texts[a[0]] < texts[b[0]] ? -1 : 1));
  const legend = ranked.slice(0, PALETTE.length).map(([prefix, count], place) => (
    { prefix, count, name: texts[prefix] || "no prefix", colour: PALETTE[place] }));
  const rest = ranked.slice(PALETTE.length);
  if (rest.length) {
    const count = rest.reduce((sum, [, number]) => sum + number, 0);
    legend.push({ prefix: null, count, name: `${rest.length} others`, colour: OTHERS });
  }
  const colours = new Array(texts.length).fill(OTHERS);
  for (const { prefix, colour } of legend) if (prefix !== null) colours[prefix] = colour;
  return { legend, colours };
}
