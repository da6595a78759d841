// Drawing. What is narrower than CELL pixels is drawn together with its neighbours, found by binary
// search: so what a picture costs depends on its size, and not on how much there is.

const CELL = 2;
const TOP = OVERVIEW + AXIS;
const RIGHT = 16;

function readTheme() {
  const style = getComputedStyle(document.documentElement);
  const theme = {};
  for (const name of ["ground", "raised", "lane", "line", "strong", "text", "quiet", "failure",
                      "hatch", "transfer", "wait", "pause", "ink", "veil", "executing", "ready", "waiting",
                      "flight", "fetch", "missing", "memory", "sans", "mono"]) {
    theme[name] = style.getPropertyValue(`--${name}`).trim();
  }
  theme.hatching = hatching(theme.hatch);
  return theme;
}

// Diagonal lines, to be laid over a colour.
function hatching(colour) {
  const tile = document.createElement("canvas");
  tile.width = tile.height = 12;
  const pen = tile.getContext("2d");
  pen.strokeStyle = colour;
  pen.lineWidth = 2;
  pen.beginPath();
  for (const shift of [-6, 0, 6, 12, 18]) {
    pen.moveTo(shift - 2, 14);
    pen.lineTo(shift + 14, -2);
  }
  pen.stroke();
  const pattern = pen.createPattern(tile, "repeat");
  pattern.setTransform(new DOMMatrix().scale(0.5));
  return pattern;
}

class Drawing {
  constructor(canvas, model) {
    this.canvas = canvas;
    this.model = model;
    this.pen = canvas.getContext("2d");
    this.theme = readTheme();
    this.resize();
  }

  resize() {
    const ratio = window.devicePixelRatio || 1;
    const { clientWidth: width, clientHeight: height } = this.canvas;
    this.width = width;
    this.height = height;
    this.plot = Math.max(1, width - GUTTER - RIGHT);
    this.canvas.width = Math.round(width * ratio);
    this.canvas.height = Math.round(height * ratio);
    this.pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.pen.font = `11px ${this.theme.mono}`;
    this.letter = this.pen.measureText("0").width;
  }

  x(time) {
    const { begin, end } = this.model.view;
    return GUTTER + ((time - begin) / (end - begin)) * this.plot;
  }

  time(x) {
    const { begin, end } = this.model.view;
    return begin + ((x - GUTTER) / this.plot) * (end - begin);
  }

  y(row) {
    return TOP + row.top - this.model.scroll;
  }

  draw() {
    const { pen, theme, model, width, height } = this;
    pen.globalAlpha = 1;
    pen.fillStyle = theme.ground;
    pen.fillRect(0, 0, width, height);
    pen.textBaseline = "middle";
    const ticks = this.ticks();
    pen.save();
    pen.beginPath();
    pen.rect(0, TOP, width, height - TOP);
    pen.clip();
    const visible = model.layout.rows.filter(
      (row) => this.y(row) < height && this.y(row) + row.height > TOP);
    this.grounds(visible, ticks);
    this.clipped(() => {
      for (const row of visible) this.row(row);
      this.links(visible);
    });
    for (const row of visible) this.name(row);
    pen.restore();
    this.axis(ticks);
    this.overview();
    this.scrollbar();
  }

  // Draw something that must not reach beyond the plot.
  clipped(draw) {
    this.pen.save();
    this.pen.beginPath();
    this.pen.rect(GUTTER, 0, this.plot, this.height);
    this.pen.clip();
    draw();
    this.pen.restore();
  }

  grounds(visible, ticks) {
    const { pen, theme, model, height, plot } = this;
    for (const row of visible) {
      if (row.kind !== "lane" && row.kind !== "fold") continue;
      pen.fillStyle = theme.lane;
      pen.fillRect(GUTTER, this.y(row) + 1, plot, LANE - 2);
    }
    pen.fillStyle = theme.line;
    for (const tick of ticks.times) pen.fillRect(Math.round(this.x(tick)), TOP, 1, height - TOP);
    pen.fillStyle = theme.pause;
    this.clipped(() => {
      for (const [begin, end] of model.pauses) {
        const left = this.x(begin), wide = this.x(end) - left;
        if (wide >= 2) pen.fillRect(left, TOP, wide, height - TOP);
      }
    });
  }

  row(row) {
    if (row.kind === "lane") this.lane(row);
    else if (row.kind === "chart") this.chart(row);
    else if (row.kind === "marks") this.marks(row);
    else if (row.kind === "fold") this.fold(row);
  }

  name(row) {
    const { pen, theme } = this;
    const y = this.y(row);
    pen.globalAlpha = 1;
    pen.textAlign = "left";
    if (row.kind === "heading") {
      pen.font = `600 12px ${theme.sans}`;
      pen.fillStyle = theme.text;
      pen.fillText(row.title, 16, y + row.height - 11);
      const width = pen.measureText(row.title).width;
      pen.font = `12px ${theme.sans}`;
      pen.fillStyle = theme.quiet;
      pen.fillText(row.size, 16 + width + 7, y + row.height - 11);
    } else if (row.kind === "lane" || row.kind === "fold") {
      pen.font = `11px ${theme.mono}`;
      pen.fillStyle = theme.quiet;
      pen.fillText(fitted(row.title, (GUTTER - 28) / this.letter), 16, y + row.height / 2);
    } else {
      pen.font = `600 12px ${theme.sans}`;
      pen.fillStyle = theme.text;
      pen.fillText(row.title, 16, y + (row.kind === "chart" ? 12 : row.height / 2));
      if (row.kind === "chart") this.chartNames(row, y);
    }
  }

  // Lanes

  lane(row) {
    const { lane } = row;
    const { view } = this.model;
    const { begin, end, spans } = lane;
    const y = this.y(row) + 2, height = LANE - 4;
    const cellTime = (CELL / this.plot) * (view.end - view.begin);
    let place = firstAtLeast(end, view.begin);
    while (place < begin.length && begin[place] <= view.end) {
      const left = this.x(begin[place]);
      if (this.x(end[place]) - left >= CELL) {
        this.span(spans[place], y, height);
        place++;
        continue;
      }
      const cell = Math.floor((left - GUTTER) / CELL);
      const limit = view.begin + (cell + 1) * cellTime;
      const next = firstAtLeast(end, limit, place + 1);
      this.cell(lane, place, next, GUTTER + cell * CELL, y, height, cellTime);
      place = next;
    }
  }

  // Several spans in one cell: the colour of the first, and at the foot how many of them are bad.
  cell(lane, from, to, x, y, height, cellTime) {
    const { pen, model, theme } = this;
    let { bad } = lane, count = to - from, shown = from;
    if (model.matching) {
      count = lane.matching[to] - lane.matching[from];
      bad = lane.matchingBad;
      if (count) shown = firstAtLeast(lane.matching, lane.matching[from] + 1, from) - 1;
    }
    const busy = (lane.busy[to] - lane.busy[from]) / cellTime;
    pen.globalAlpha = !count ? 0.12 : to - from === 1 ? 1 : Math.max(0.45, Math.min(1, busy));
    pen.fillStyle = model.colourOf(lane.spans[shown], theme);
    pen.fillRect(x, y, CELL, height);
    pen.globalAlpha = 1;
    const badCount = bad[to] - bad[from];
    if (!badCount) return;
    const tall = Math.max(4, (badCount / count) * height);
    pen.fillStyle = theme.failure;
    pen.fillRect(x, y + height - tall, CELL, tall);
  }

  span(span, y, height) {
    const { pen, model, theme } = this;
    const { spans } = model;
    const left = Math.max(GUTTER - 4, this.x(spans.begin[span]));
    const right = Math.min(this.width, this.x(spans.end[span]));
    const faded = model.matching && !model.matches(span);
    pen.globalAlpha = faded ? 0.12 : 1;
    const shape = model.shapeOf(span);
    this.body(shape, model.colourOf(span, theme), left, y, right - left, height, this.secededAt(span, left));
    if (!faded && right - left > 5 * this.letter) {
      this.label(model.labelOf(span), shape, Math.max(GUTTER, left), y, right, height);
    }
    pen.globalAlpha = 1;
    if (model.concerns(span, model.selected)) {
      pen.strokeStyle = theme.text;
      pen.lineWidth = 2;
      pen.strokeRect(left, y - 1, Math.max(2, right - left), height + 2);
    }
  }

  secededAt(span, left) {
    const { spans, tables } = this.model;
    if (spans.kind[span] !== EXECUTION) return null;
    const seceded = tables.executions.seceded[spans.row[span]];
    return seceded < 0 ? null : Math.max(left, this.x(spans.begin[span] + seceded));
  }

  // The shape says how it ended, for those who cannot tell the colours apart.
  body(shape, colour, x, y, width, height, seceded = null) {
    const { pen, theme } = this;
    const gap = width > 6 ? 1 : 0;
    width -= gap;
    if (shape === "wait") {
      pen.fillStyle = theme.wait;
      for (let dash = x; dash < x + width; dash += 6) {
        pen.fillRect(dash, y + height / 2 - 1, Math.min(3, x + width - dash), 2);
      }
      return;
    }
    pen.fillStyle = shape === "bad" ? theme.failure : colour;
    const whole = seceded === null ? width : Math.min(width, seceded - x);
    pen.fillRect(x, y, whole, height);
    if (whole < width) pen.fillRect(x + whole, y + height / 2 - 2, width - whole, 4);
    if (shape === "bad" && width > 8) {
      pen.fillStyle = colour;
      pen.fillRect(x, y, 3, height);
    }
    if (shape === "faint") {
      pen.fillStyle = theme.hatching;
      pen.fillRect(x, y, whole, height);
    }
    if (shape === "open") {
      pen.fillStyle = theme.ground;
      pen.beginPath();
      for (let tooth = 0; tooth < 4; tooth++) {
        pen.moveTo(x + width + 1, y + (tooth * height) / 4);
        pen.lineTo(x + width - Math.min(4, width / 2), y + ((tooth + 0.5) * height) / 4);
        pen.lineTo(x + width + 1, y + ((tooth + 1) * height) / 4);
      }
      pen.fill();
    }
  }

  label(text, shape, left, y, right, height) {
    const { pen, theme } = this;
    if (shape === "wait") return;
    const indent = shape === "bad" ? 9 : 6;
    const letters = (right - left - indent - 4) / this.letter;
    const shown = fitted(shape === "bad" ? `✕ ${text}` : text, letters);
    if (shown.length < 3) return;
    pen.font = `11px ${theme.mono}`;
    pen.textAlign = "left";
    if (shape === "faint") {
      pen.fillStyle = theme.veil;
      pen.fillRect(left + indent - 3, y + 2, shown.length * this.letter + 6, height - 4);
    }
    pen.fillStyle = shape === "bad" ? theme.raised : shape === "faint" ? theme.text : theme.ink;
    pen.fillText(shown, left + indent, y + height / 2 + 0.5);
  }

  // How many of the folded lanes are in use.
  fold(row) {
    const { pen, theme, model } = this;
    const { fold } = row;
    const bottom = this.y(row) + LANE - 2, room = LANE - 4;
    const step = (CELL / this.plot) * (model.view.end - model.view.begin);
    pen.fillStyle = theme.ready;
    for (let x = GUTTER, time = model.view.begin; x < GUTTER + this.plot; x += CELL, time += step) {
      const count = overlapping(fold, time, time + step);
      if (!count) continue;
      const tall = Math.max(2, Math.min(1, count / fold.lanes.length) * room);
      pen.fillRect(x, bottom - tall, CELL, tall);
    }
  }

  // From what brought the inputs of the selected task to it, and from it to those that took it.
  links(visible) {
    const { pen, theme, model } = this;
    const rowOf = new Map(visible.filter((row) => row.lane).map((row) => [row.lane, row]));
    pen.strokeStyle = theme.text;
    pen.lineWidth = 1.25;
    for (const [from, to] of model.links) {
      const rows = [model.laneOf(from), model.laneOf(to)].map((lane) => rowOf.get(lane));
      if (!rows[0] || !rows[1]) continue;
      const [y0, y1] = rows.map((row) => this.y(row) + LANE / 2);
      const x0 = this.x(model.spans.end[from]), x1 = this.x(model.spans.begin[to]);
      const bend = Math.max(14, Math.min(80, Math.abs(x1 - x0) / 2));
      pen.beginPath();
      pen.moveTo(x0, y0);
      pen.bezierCurveTo(x0 + bend, y0, x1 - bend, y1, x1, y1);
      pen.stroke();
      pen.beginPath();
      pen.moveTo(x1, y1);
      pen.lineTo(x1 - 6, y1 - 3.5);
      pen.lineTo(x1 - 6, y1 + 3.5);
      pen.fillStyle = theme.text;
      pen.fill();
    }
  }

  // Marks that have room for their sign; the others as ticks.
  marks(row) {
    const { pen, theme, model } = this;
    const { marks } = model.tables;
    const { view } = model;
    const middle = this.y(row) + row.height / 2;
    const place = (mark) => (mark < marks.length ? this.x(marks.at[mark]) : Infinity);
    let last = -Infinity;
    for (let mark = firstAtLeast(marks.at, view.begin); mark < marks.length; mark++) {
      if (marks.at[mark] > view.end) break;
      const x = place(mark);
      const sign = model.signOf(mark);
      if (x - last >= 13 && place(mark + 1) - x >= 13) this.mark(sign, x, middle);
      else if (x - last >= 1 || sign === "lost" || sign === "error") {
        pen.fillStyle = sign === "lost" || sign === "error" ? theme.failure : theme.strong;
        pen.fillRect(Math.round(x), middle - 5, 1, 10);
      }
      last = x;
    }
  }

  mark(sign, x, y) {
    const { pen, theme } = this;
    pen.fillStyle = sign === "lost" || sign === "error" ? theme.failure : theme.quiet;
    pen.strokeStyle = pen.fillStyle;
    pen.lineWidth = 1.75;
    pen.beginPath();
    if (sign === "pause") {
      pen.rect(x - 4, y - 5, 3, 10);
      pen.rect(x + 1, y - 5, 3, 10);
    } else if (sign === "unpause") {
      pen.moveTo(x - 3, y - 5);
      pen.lineTo(x + 5, y);
      pen.lineTo(x - 3, y + 5);
    } else if (sign === "lost") {
      pen.moveTo(x, y - 6);
      pen.lineTo(x + 5, y);
      pen.lineTo(x, y + 6);
      pen.lineTo(x - 5, y);
    } else if (sign === "cancel" || sign === "error") {
      pen.moveTo(x - 4, y - 4);
      pen.lineTo(x + 4, y + 4);
      pen.moveTo(x + 4, y - 4);
      pen.lineTo(x - 4, y + 4);
      pen.stroke();
      return;
    } else {
      pen.arc(x, y, 3.5, 0, 2 * Math.PI);
      pen.stroke();
      return;
    }
    pen.fill();
  }

  // Charts

  chart(row) {
    const { pen, theme } = this;
    const { chart } = row;
    const columns = this.columns(chart);
    row.highest = rounded(Math.max(1, columns.highest));
    const bottom = this.y(row) + row.height - 7, room = row.height - 16;
    const level = (value) => bottom - (value / row.highest) * room;
    pen.fillStyle = theme.line;
    pen.fillRect(GUTTER, bottom, this.plot, 1);
    pen.fillRect(GUTTER, bottom - room, this.plot, 1);
    for (let series = chart.series.length - 1; series >= 0; series--) {
      if (!this.model.levelSeen[chart.series[series][0]]) continue;
      pen.beginPath();
      let x = GUTTER - CELL;
      if (chart.stacked) pen.moveTo(GUTTER, bottom);
      for (const values of columns.values) {
        x += CELL;
        if (!values && !chart.stacked) continue;
        const y = level(values ? values[series] : 0);
        pen.lineTo(x, y);
        pen.lineTo(x + CELL, y);
      }
      if (chart.stacked) {
        pen.lineTo(x + CELL, bottom);
        pen.fillStyle = theme[chart.series[series][1]];
        pen.fill();
      } else {
        pen.strokeStyle = theme[chart.series[series][1]];
        pen.setLineDash(series ? [3, 2] : []);
        pen.lineWidth = 1.5;
        pen.stroke();
        pen.setLineDash([]);
      }
    }
  }

  // What a chart shows in each cell: where the most is, if a cell has several levels.
  columns(chart) {
    const { levels } = this.model.tables;
    const { view } = this.model;
    const names = chart.series.map(([name]) => levels[name]);
    const values = [];
    let highest = 0;
    const step = ((view.end - view.begin) / this.plot) * CELL;
    let place = firstAtLeast(levels.at, view.begin) - 1;
    for (let limit = view.begin + step; values.length < this.plot / CELL; limit += step) {
      let best = null, most = -1;
      for (;;) {
        if (place >= 0 && place < levels.length) {
          let sum = 0;
          const here = names.map((column) => (chart.stacked ? (sum += column[place]) : column[place]));
          const size = Math.max(...here);
          if (size >= most) [best, most] = [here, size];
        }
        if (place + 1 >= levels.length || levels.at[place + 1] >= limit) break;
        place++;
      }
      if (limit - step > this.model.bounds.last) best = null;
      highest = Math.max(highest, most);
      values.push(best);
    }
    return { values, highest };
  }

  chartNames(row, y) {
    const { pen, theme } = this;
    const { chart } = row;
    pen.font = `11px ${theme.sans}`;
    const names = chart.series.filter(([name]) => this.model.levelSeen[name]);
    names.forEach(([name, colour], place) => {
      const column = chart.stacked ? place % 2 : place;
      const left = 16 + column * (chart.stacked ? 76 : 82), line = y + 28 + (chart.stacked ? Math.floor(place / 2) * 15 : 0);
      pen.fillStyle = theme[colour];
      if (chart.stacked) pen.fillRect(left, line - 4, 8, 8);
      else for (const dash of place ? [0, 5] : [0, 3, 5]) pen.fillRect(left + dash, line - 1, 3, 2);
      pen.fillStyle = theme.quiet;
      pen.fillText(SERIES[name] || name, left + 13, line + 0.5);
    });
    pen.textAlign = "right";
    pen.fillStyle = theme.quiet;
    pen.font = `10px ${theme.sans}`;
    if (row.highest) pen.fillText(chart.unit(row.highest), GUTTER - 6, y + 10);
    pen.textAlign = "left";
  }

  // Time

  ticks() {
    const { begin, end } = this.model.view;
    const step = niceStep(((end - begin) / this.plot) * 110);
    const times = [];
    for (let time = Math.ceil(begin / step) * step; time <= end; time += step) times.push(time);
    return { step, times };
  }

  axis({ step, times }) {
    const { pen, theme, model, width } = this;
    pen.fillStyle = theme.ground;
    pen.fillRect(0, OVERVIEW, width, AXIS);
    pen.fillStyle = theme.line;
    pen.fillRect(0, TOP - 1, width, 1);
    pen.font = `11px ${theme.sans}`;
    pen.textAlign = "left";
    this.clipped(() => {
      for (const time of times) {
        const x = Math.round(this.x(time));
        pen.fillStyle = theme.strong;
        pen.fillRect(x, TOP - 7, 1, 6);
        pen.fillStyle = theme.quiet;
        pen.fillText(clock(time, step), x + 4, OVERVIEW + AXIS / 2 + 1);
      }
    });
    pen.fillStyle = theme.quiet;
    pen.fillText(`${duration(model.view.end - model.view.begin)} shown`, 16, OVERVIEW + AXIS / 2 + 1);
    if (model.pointer !== null) {
      pen.fillStyle = theme.strong;
      pen.fillRect(Math.round(model.pointer), TOP, 1, this.height - TOP);
      const text = clock(this.time(model.pointer), step / 100);
      const room = pen.measureText(text).width + 12;
      const left = Math.min(this.width - RIGHT - room, Math.max(GUTTER, model.pointer - room / 2));
      pen.fillStyle = theme.text;
      pen.beginPath();
      pen.roundRect(left, OVERVIEW + 4, room, AXIS - 8, 4);
      pen.fill();
      pen.fillStyle = theme.ground;
      pen.fillText(text, left + 6, OVERVIEW + AXIS / 2 + 0.5);
    }
  }

  // All of the time, how much was done in it, and what of it is in view.
  overview() {
    const { pen, theme, model, plot } = this;
    const { bounds, view } = model;
    const top = 8, height = OVERVIEW - 14;
    const scale = plot / (bounds.end - bounds.begin);
    const columns = model.activity(Math.ceil(plot / CELL));
    pen.fillStyle = theme.lane;
    pen.fillRect(GUTTER, top, plot, height);
    columns.busy.forEach((share, place) => {
      const count = columns.count[place];
      if (!share && !count) return;
      const tall = Math.max(1, Math.min(1, share) * (height - 2));
      const bad = columns.bad[place] ? Math.max(1, (columns.bad[place] / count) * tall) : 0;
      pen.fillStyle = theme.executing;
      pen.globalAlpha = 0.8;
      pen.fillRect(GUTTER + place * CELL, top + height - tall, CELL, tall);
      pen.globalAlpha = 1;
      pen.fillStyle = theme.failure;
      pen.fillRect(GUTTER + place * CELL, top + height - Math.max(tall, bad), CELL, bad);
    });
    const left = GUTTER + (Math.max(view.begin, bounds.begin) - bounds.begin) * scale;
    const right = GUTTER + (Math.min(view.end, bounds.end) - bounds.begin) * scale;
    pen.fillStyle = theme.veil;
    pen.fillRect(GUTTER, top, left - GUTTER, height);
    pen.fillRect(right, top, GUTTER + plot - right, height);
    pen.strokeStyle = theme.quiet;
    pen.lineWidth = 1;
    pen.beginPath();
    pen.roundRect(Math.min(left, GUTTER + plot - 3) + 0.5, top - 0.5, Math.max(3, right - left - 1), height + 1, 3);
    pen.stroke();
    pen.fillStyle = theme.text;
    pen.font = `600 12px ${theme.sans}`;
    pen.fillText("Everything", 16, top + height / 2 - 7);
    pen.fillStyle = theme.quiet;
    pen.font = `11px ${theme.sans}`;
    pen.fillText(duration(bounds.last - bounds.begin), 16, top + height / 2 + 8);
  }

  scrollbar() {
    const { pen, theme, model, width, height } = this;
    const room = height - TOP, total = model.layout.height;
    if (total <= room) return;
    pen.fillStyle = theme.strong;
    pen.beginPath();
    pen.roundRect(width - 8, TOP + (model.scroll / total) * room + 2, 4, (room / total) * room - 4, 2);
    pen.fill();
  }
}

// How many spans of a fold there are in a stretch of time.
function overlapping(fold, begin, end) {
  return firstAtLeast(fold.begins, end + 0.5) - firstAtLeast(fold.ends, begin);
}

function fitted(text, letters) {
  const room = Math.floor(letters);
  return text.length <= room ? text : room < 2 ? "" : `${text.slice(0, room - 1)}…`;
}

function niceStep(least) {
  if (least > 30e6) {
    const long = [60e6, 120e6, 300e6, 600e6, 1200e6, 1800e6, 3600e6, 7200e6, 14400e6, 21600e6, 43200e6];
    return long.find((step) => step >= least) || Math.ceil(least / 86400e6) * 86400e6;
  }
  const power = 10 ** Math.floor(Math.log10(Math.max(1, least)));
  return [1, 2, 5, 10].map((factor) => factor * power).find((step) => step >= least);
}

// A number not below another that is nice to read.
function rounded(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 1.5, 2, 3, 4, 5, 6, 8, 10].map((factor) => factor * power).find((nice) => nice >= value);
}

// A time of the run, as exactly as a step needs it.
function clock(us, step) {
  const digits = Math.max(0, Math.min(6, Math.ceil(6 - Math.log10(Math.max(step, 1)))));
  const total = Math.abs(us) / 1e6;
  const sign = us < 0 ? "−" : "";
  if (total < 120) return `${sign}${total.toFixed(digits)} s`;
  const hours = Math.floor(total / 3600), minutes = Math.floor(total / 60) % 60;
  const rest = (total % 60).toFixed(digits).padStart(digits ? 3 + digits : 2, "0");
  return `${sign}${hours ? `${hours}:${String(minutes).padStart(2, "0")}` : minutes}:${rest}`;
}
