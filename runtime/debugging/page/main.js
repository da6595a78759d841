// The page: what the reader does, and what becomes of it.

const $ = (id) => document.getElementById(id);

class Page {
  constructor(model) {
    this.model = model;
    this.canvas = $("canvas");
    this.drawing = new Drawing(this.canvas, model);
    this.panel = new Panel($("panel"), model, (task, span) => this.go(task, span));
    this.frames = [];
    this.due = false;
    this.pointers = new Map();
    this.describeAll();
    this.listen();
    this.request();
  }

  // One picture for each frame of the screen, however much has happened since the last.
  request() {
    if (this.due) return;
    this.due = true;
    requestAnimationFrame(() => {
      this.due = false;
      const begin = performance.now();
      this.drawing.draw();
      this.frames.push(performance.now() - begin);
      if (this.frames.length > 1000) this.frames.shift();
    });
  }

  describeAll() {
    const { model } = this;
    const { about } = model.tables;
    const begun = new Date(about.begun_s * 1000).toISOString().replace("T", " ").slice(0, 19);
    const size = `${counted(model.keys.length, "task")}, ${counted(model.tables.executions.length, "attempt")}`;
    $("about").textContent =
      `${size} · ${duration(model.bounds.last - model.bounds.begin)} · records ${about.from} to ${about.to} · begun ${begun} UTC · trouper ${about.trouper}`;
    if (about.stuck) {
      $("stuck").textContent = counted(about.stuck, "stuck task");
      $("stuck").hidden = false;
    }
    this.drawLegend();
    $("message").remove();
  }

  drawLegend() {
    const { model, drawing } = this;
    const items = model.palette.legend.map(({ name, colour, count }) => {
      const item = this.sample("plain", colour, `${name} `);
      item.append(element("small", {}, grouped(count)));
      return item;
    });
    const { theme } = drawing;
    const colour = PALETTE[0];
    const outcomes = [["plain", colour, "succeeded"], ["bad", colour, "failed, lost"], ["faint", colour, "cancelled, busy"],
                      ["open", colour, "not ended"], ["seceded", colour, "without a slot"],
                      ["plain", theme.transfer, "fetched"], ["wait", colour, "left alone"]];
    const told = outcomes.map(([shape, fill, text]) => this.sample(shape, fill, text));
    told[0].classList.add("gap");
    $("legend").replaceChildren(...items, ...told);
  }

  sample(shape, colour, text) {
    const canvas = element("canvas", { width: 52, height: 24 });
    const pen = canvas.getContext("2d");
    pen.scale(2, 2);
    const kind = shape === "seceded" ? "plain" : shape;
    this.drawing.body.call({ pen, theme: this.drawing.theme }, kind, colour, 0, 0, 26, 12, shape === "seceded" ? 12 : null);
    return element("span", {}, canvas, text);
  }

  listen() {
    const { canvas, model, drawing } = this;
    const act = (what) => () => {
      what();
      this.changed();
    };
    $("in").addEventListener("click", act(() => this.zoom(1.6)));
    $("out").addEventListener("click", act(() => this.zoom(1 / 1.6)));
    $("fit").addEventListener("click", act(() => model.fit()));
    $("help").addEventListener("click", () => $("keys").showModal());
    $("stuck").addEventListener("click", () => this.panel.listStuck(model.stuck));
    $("filter").addEventListener("input", () => this.filter());
    $("filter").addEventListener("keydown", (event) => this.typed(event));
    canvas.addEventListener("wheel", (event) => this.turned(event), { passive: false });
    canvas.addEventListener("pointerdown", (event) => this.pressed(event));
    canvas.addEventListener("pointermove", (event) => this.moved(event));
    canvas.addEventListener("pointerup", (event) => this.released(event));
    canvas.addEventListener("pointercancel", (event) => this.pointers.delete(event.pointerId));
    canvas.addEventListener("pointerleave", () => this.left());
    canvas.addEventListener("dblclick", (event) => this.zoomTo(this.spanAt(...this.place(event))));
    document.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => {
      drawing.resize();
      this.changed();
    }).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
      drawing.theme = readTheme();
      this.drawLegend();
      this.request();
    });
  }

  changed() {
    const { model, drawing } = this;
    const room = drawing.height - TOP;
    model.scroll = Math.max(0, Math.min(model.scroll, model.layout.height - room));
    $("tooltip").hidden = true;
    this.request();
  }

  zoom(factor) {
    const { begin, end } = this.model.view;
    this.model.zoom(factor, (begin + end) / 2);
  }

  // Mouse and fingers

  place(event) {
    const box = this.canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  turned(event) {
    event.preventDefault();
    const { model, drawing } = this;
    const unit = event.deltaMode === 1 ? 16 : event.deltaMode === 2 ? drawing.height : 1;
    const across = event.deltaX * unit, down = event.deltaY * unit;
    const [x] = this.place(event);
    const perPixel = (model.view.end - model.view.begin) / drawing.plot;
    if (event.shiftKey || x < GUTTER) model.scroll += down || across;
    else if (Math.abs(across) > Math.abs(down)) model.move(across * perPixel);
    else model.zoom(Math.exp(-down * (event.ctrlKey ? 0.01 : 0.0016)), drawing.time(x));
    this.changed();
  }

  pressed(event) {
    const [x, y] = this.place(event);
    this.canvas.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, [x, y]);
    this.began = { x, y, dragged: this.pointers.size > 1, overview: y < OVERVIEW && x >= GUTTER };
    if (this.began.overview) this.centre(x);
  }

  moved(event) {
    const [x, y] = this.place(event);
    const before = this.pointers.get(event.pointerId);
    if (!before) {
      this.hover(x, y);
      return;
    }
    const others = [...this.pointers].filter(([id]) => id !== event.pointerId);
    this.pointers.set(event.pointerId, [x, y]);
    if (this.began.overview) this.centre(x);
    else if (others.length) this.pinch(others[0][1], before, [x, y]);
    else this.drag(x, y, before);
  }

  drag(x, y, [beforeX, beforeY]) {
    const { began, model, drawing } = this;
    if (!began.dragged && Math.hypot(x - began.x, y - began.y) < 4) return;
    if (!began.dragged) [beforeX, beforeY] = [began.x, began.y];
    began.dragged = true;
    this.canvas.classList.add("dragging");
    model.pointer = null;
    model.move(drawing.time(beforeX) - drawing.time(x));
    model.scroll += beforeY - y;
    this.changed();
  }

  pinch(still, before, now) {
    const { model, drawing } = this;
    const wide = (point) => Math.max(20, Math.hypot(point[0] - still[0], point[1] - still[1]));
    model.zoom(wide(now) / wide(before), drawing.time((now[0] + still[0]) / 2));
    this.began.dragged = true;
    this.changed();
  }

  centre(x) {
    const { model, drawing } = this;
    const { bounds, view } = model;
    const at = bounds.begin + ((x - GUTTER) / drawing.plot) * (bounds.end - bounds.begin);
    model.move(at - (view.begin + view.end) / 2);
    this.changed();
  }

  released(event) {
    this.canvas.classList.remove("dragging");
    if (!this.pointers.delete(event.pointerId) || this.began.dragged || this.began.overview) return;
    const [x, y] = this.place(event);
    const row = this.rowAt(y);
    if (row?.kind === "fold") {
      this.model.turn(row.fold);
      this.changed();
    }
    const span = this.spanAt(x, y);
    if (span >= 0 && this.model.tasksOf(span).length) this.go(this.taskOf(span));
  }

  // Of a gather of several tasks, one that the filter names, or the first.
  taskOf(span) {
    const tasks = this.model.tasksOf(span);
    return tasks.find((task) => this.model.matching?.[task]) ?? tasks[0];
  }

  left() {
    this.model.pointer = null;
    $("tooltip").hidden = true;
    this.request();
  }

  rowAt(y) {
    const { drawing, model } = this;
    if (y < TOP) return undefined;
    return model.layout.rows.find((row) => y >= drawing.y(row) && y < drawing.y(row) + row.height);
  }

  // The span at a point, or the nearest within three pixels; -1 for none.
  spanAt(x, y) {
    const row = this.rowAt(y);
    if (!row?.lane || x < GUTTER) return -1;
    const { drawing } = this;
    const { lane } = row;
    const time = drawing.time(x);
    const place = firstAtLeast(lane.end, time);
    let best = -1, nearest = 3;
    for (const other of [place, place - 1]) {
      if (other < 0 || other >= lane.spans.length) continue;
      const away = Math.max(0, drawing.x(lane.begin[other]) - x, x - drawing.x(lane.end[other]));
      if (away < nearest) [best, nearest] = [lane.spans[other], away];
    }
    return best;
  }

  hover(x, y) {
    const { model } = this;
    model.pointer = x >= GUTTER && y > OVERVIEW && x <= GUTTER + this.drawing.plot ? x : null;
    const span = this.spanAt(x, y);
    const row = this.rowAt(y);
    this.canvas.classList.toggle("pointing", row?.kind === "fold" || (span >= 0 && model.tasksOf(span).length > 0));
    const said = span >= 0 ? this.ofSpan(span, x) : x >= GUTTER || row?.kind === "fold" ? this.ofRow(row, x) : null;
    const tooltip = $("tooltip");
    tooltip.hidden = !said;
    if (said) {
      tooltip.replaceChildren(...said);
      const { offsetWidth: width, offsetHeight: height } = tooltip;
      const left = x + 14 + width > this.drawing.width ? x - 14 - width : x + 14;
      const top = y + 18 + height > this.drawing.height ? y - 12 - height : y + 18;
      tooltip.style.transform = `translate(${Math.round(Math.max(4, left))}px, ${Math.round(Math.max(4, top))}px)`;
    }
    this.request();
  }

  ofSpan(span, x) {
    const { drawing, model } = this;
    const told = describe(model, span, drawing.theme);
    const lane = model.laneOf(span);
    const around = firstAtLeast(lane.end, drawing.time(x + 1)) - firstAtLeast(lane.end, drawing.time(x - 1));
    return [
      element("strong", {}, told.title),
      element("p", { class: told.bad ? "bad" : "said" }, element("i", { colour: told.colour }), told.said),
      ...told.lines.map((line) => element("p", {}, line)),
      element("p", {}, told.when),
      around > 2 ? element("p", {}, `one of ${around} at this point; zoom in`) : "",
    ].filter(Boolean);
  }

  ofRow(row, x) {
    const { drawing, model } = this;
    const { levels, marks } = model.tables;
    const time = drawing.time(x);
    if (row?.kind === "chart") {
      const place = firstAtLeast(levels.at, time + 0.5) - 1;
      if (place < 0) return null;
      const lines = row.chart.series.filter(([name]) => model.levelSeen[name]).map(([name, colour]) => (
        element("p", { class: "said" }, element("i", { colour: drawing.theme[colour] }),
          `${row.chart.unit(levels[name][place])} ${SERIES[name] || name}`)));
      return lines.length ? lines : null;
    }
    if (row?.kind === "fold") {
      return [
        element("p", { class: "said" }, `${counted(overlapping(row.fold, time, time), "attempt")} beyond the slots`),
        element("p", {}, "handed over early, for they are brief, or their slot was given back"),
        element("p", {}, row.fold.open ? "click to fold them" : "click to see their lanes"),
      ];
    }
    if (row?.kind !== "marks") return null;
    const near = [];
    const from = firstAtLeast(marks.at, drawing.time(x - 5));
    for (let mark = from; mark < marks.length && marks.at[mark] <= drawing.time(x + 5); mark++) near.push(mark);
    if (!near.length) return null;
    const shown = near.slice(0, 8).map((mark) => element("p", { class: "said" },
      `#${marks.n[mark]} ${model.texts[marks.what[mark]]} ${marks.about[mark]}`));
    return near.length > 8 ? [...shown, element("p", {}, `and ${near.length - 8} more; zoom in`)] : shown;
  }

  // Tasks

  // Go to a task: tell its story; or to a span: zoom to it. -1 closes.
  go(task, span = -1) {
    const { model, drawing } = this;
    if (task === -1) {
      model.select(-1);
      this.panel.close();
      this.canvas.focus();
    } else if (task !== null) {
      model.select(task);
      this.panel.tell(task, drawing.theme);
      const spans = model.spansOf(task);
      if (spans.length && !spans.some((other) => this.isInView(other))) this.bringIntoView(spans[spans.length - 1]);
    }
    if (span >= 0) this.zoomTo(span);
    this.changed();
  }

  isInView(span) {
    const { model, drawing } = this;
    const y = drawing.y(model.rowOf(span));
    return model.spans.end[span] >= model.view.begin && model.spans.begin[span] <= model.view.end &&
      y >= TOP && y + LANE <= drawing.height;
  }

  bringIntoView(span) {
    const { model, drawing } = this;
    const { begin, end } = model.view;
    const middle = (model.spans.begin[span] + model.spans.end[span]) / 2;
    if (middle < begin || middle > end) model.move(middle - (begin + end) / 2);
    const row = model.rowOf(span);
    const y = drawing.y(row);
    if (y < TOP || y + LANE > drawing.height) model.scroll = row.top - (drawing.height - TOP) / 2;
  }

  zoomTo(span) {
    const { model } = this;
    if (span < 0) model.fit();
    else {
      const width = Math.max(50, model.spans.end[span] - model.spans.begin[span]);
      model.show(model.spans.begin[span] - width * 1.5, model.spans.end[span] + width * 1.5);
      this.bringIntoView(span);
    }
    this.changed();
  }

  filter() {
    const count = this.model.filter($("filter").value);
    $("found").textContent = count === null ? "" : count ? counted(count, "match", "matches") : "no match";
    $("found").classList.toggle("none", count === 0);
    this.request();
  }

  // Keys

  typed(event) {
    event.stopPropagation();
    if (event.key === "Escape") {
      $("filter").value = "";
      this.filter();
      this.canvas.focus();
    } else if (event.key === "Enter" && this.model.matching) {
      const span = this.model.nextMatch();
      if (span >= 0) {
        this.go(this.model.tasksOf(span)[0]);
        this.bringIntoView(span);
      }
    }
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || $("keys").open) return;
    const { model } = this;
    const width = model.view.end - model.view.begin;
    const keys = {
      ArrowLeft: () => model.move(-width / 8), ArrowRight: () => model.move(width / 8),
      ArrowUp: () => { model.scroll -= 3 * LANE; }, ArrowDown: () => { model.scroll += 3 * LANE; },
      "+": () => this.zoom(1.6), "=": () => this.zoom(1.6), "-": () => this.zoom(1 / 1.6), 0: () => model.fit(),
      "/": () => $("filter").focus(), "?": () => $("keys").showModal(), Escape: () => this.escape(),
    };
    if (!keys[event.key] || (event.key.startsWith("Arrow") && $("panel").contains(document.activeElement))) return;
    event.preventDefault();
    keys[event.key]();
    this.changed();
  }

  escape() {
    if (!$("panel").hidden) this.go(-1);
    else {
      $("filter").value = "";
      this.filter();
    }
  }
}

const opening = performance.now();
readTables().then((tables) => {
  const page = new Page(new Model(tables));
  // For whoever looks at the page with the browser's tools.
  window.timeline = { page, model: page.model, opened_ms: performance.now() - opening };
}).catch((error) => {
  $("message").textContent = error.message;
  throw error;
});
