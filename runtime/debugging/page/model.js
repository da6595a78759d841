// All that the page knows, and where the reader stands in it.

class Model {
  constructor(tables) {
    this.tables = tables;
    [this.keys, this.before] = unite(tables);
    this.texts = tables.texts.text;
    this.spans = gatherSpans(tables);
    this.lanes = layLanes(tables, this.spans, this.texts);
    this.folds = new Map();
    for (const name of Object.keys(tables.about.slots)) {
      const fold = foldOf(this.lanes, name);
      if (!fold) continue;
      this.folds.set(name, fold);
      stackUp(fold, this.spans);
    }
    this.layout = layRows(this.lanes, this.folds, tables);
    this.laneOfSpan = new Array(this.spans.length);
    for (const lane of this.lanes) for (const span of lane.spans) this.laneOfSpan[span] = lane;
    this.palette = paint(tables, this.texts);
    const { begin, end } = tables.about;
    this.bounds = { begin, last: end, end: Math.max(end, begin + 1000) };
    this.fit();
    this.scroll = 0;
    this.pointer = null;
    this.matching = null;
    this.matches = (span) => this.tasksOf(span).some((task) => this.matching[task]);
    this.selected = -1;
    this.links = [];
    this.turnsOf = indexBy(tables.turns.task, this.keys.length);
    this.executionsOf = indexBy(tables.executions.task, this.keys.length);
    this.endings = new Map(Array.from(tables.endings.task, (task, row) => [task, row]));
    this.stuck = [...this.endings.values()].filter((row) => tables.endings.stuck[row]);
    this.pauses = this.findPauses();
    this.levelSeen = {};
    for (const { series } of CHARTS) {
      for (const [name] of series) this.levelSeen[name] = tables.levels[name].some((value) => value > 0);
    }
  }

  findPauses() {
    const { marks } = this.tables;
    const pauses = [];
    let begin = null;
    for (let mark = 0; mark < marks.length; mark++) {
      const what = this.texts[marks.what[mark]];
      if (what === "pause") begin ??= marks.at[mark];
      else if (what === "unpause" && begin !== null) {
        pauses.push([begin, marks.at[mark]]);
        begin = null;
      }
    }
    return begin === null ? pauses : [...pauses, [begin, this.bounds.last]];
  }

  laneOf(span) {
    return this.laneOfSpan[span];
  }

  // Open or close a fold.
  turn(fold) {
    fold.open = !fold.open;
    this.layout = layRows(this.lanes, this.folds, this.tables);
  }

  // The row of a span; if that is folded away, it is opened.
  rowOf(span) {
    const lane = this.laneOf(span);
    const fold = lane.extra ? this.folds.get(lane.name) : undefined;
    if (fold && !fold.open) this.turn(fold);
    return this.layout.rows.find((row) => row.lane === lane);
  }

  tasksOf(span) {
    const row = this.spans.row[span];
    if (this.spans.kind[span] === EXECUTION) return [this.tables.executions.task[row]];
    return this.spans.kind[span] === GATHER ? this.tables.gathers.tasks[row] : [];
  }

  concerns(span, task) {
    return task >= 0 && this.tasksOf(span).includes(task);
  }

  colourOf(span, theme) {
    if (this.spans.kind[span] === EXECUTION) {
      return this.palette.colours[this.tables.executions.prefix[this.spans.row[span]]];
    }
    return this.spans.kind[span] === GATHER ? theme.transfer : theme.wait;
  }

  shapeOf(span) {
    if (this.spans.kind[span] === WAIT) return "wait";
    const outcome = this.texts[this.spans.outcome[span]];
    if (outcome === "running") return "open";
    return BAD.has(outcome) ? "bad" : FAINT.has(outcome) ? "faint" : "plain";
  }

  labelOf(span, most = 1) {
    if (this.spans.kind[span] === WAIT) {
      return this.laneOf(span).group === "timers" ? "Until the next question" : "Busy peer, left alone";
    }
    const tasks = this.tasksOf(span);
    const named = tasks.slice(0, most).map((task) => this.keys[task]).join(", ");
    return tasks.length > most ? `${named} and ${tasks.length - most} more` : named;
  }

  signOf(mark) {
    const what = this.texts[this.tables.marks.what[mark]];
    const signs = { pause: "pause", unpause: "unpause", "remove-worker": "lost", "gather-network-failure": "lost",
                    "cancel-task": "cancel", "cancel-compute": "cancel", "refresh-who-has": "question",
                    "request-refresh-who-has": "question" };
    return signs[what] || "error";
  }

  // Spans of a task, in time.
  spansOf(task) {
    const { executions, gathers } = this.tables;
    const found = Array.from(this.executionsOf(task));
    for (let row = 0; row < gathers.length; row++) {
      if (gathers.tasks[row].includes(task)) found.push(executions.length + row);
    }
    return found.sort((a, b) => this.spans.begin[a] - this.spans.begin[b]);
  }

  inputsOf(task) {
    const inputs = Array.from(this.executionsOf(task), (row) => this.tables.executions.inputs[row]);
    return [...new Set(inputs.flat())];
  }

  usersOf(task) {
    const { executions } = this.tables;
    const users = new Set();
    for (let row = 0; row < executions.length; row++) {
      if (executions.inputs[row].includes(task)) users.add(executions.task[row]);
    }
    return [...users];
  }

  select(task) {
    this.selected = task;
    this.links = [];
    if (task < 0) return;
    for (const span of this.executionsOf(task)) this.link(span, this.tables.executions.inputs[span]);
    for (const user of this.usersOf(task).slice(0, 100)) {
      for (const span of this.executionsOf(user)) {
        if (this.tables.executions.inputs[span].includes(task)) this.link(span, [task]);
      }
    }
  }

  // What has brought inputs to an attempt: the last before it, of each.
  link(span, inputs) {
    for (const input of inputs.slice(0, 100)) {
      const before = this.spansOf(input).filter((other) => this.spans.end[other] <= this.spans.begin[span]);
      if (before.length) this.links.push([before[before.length - 1], span]);
    }
  }

  // Which tasks match a text; null for all. How many, or null.
  filter(text) {
    const wanted = text.trim().toLowerCase();
    this.matching = null;
    if (!wanted) {
      for (const fold of this.folds.values()) stackUp(fold, this.spans);
      return null;
    }
    const matching = new Uint8Array(this.keys.length);
    let count = 0;
    this.keys.forEach((key, task) => {
      if (key.toLowerCase().includes(wanted)) {
        matching[task] = 1;
        count++;
      }
    });
    this.matching = matching;
    for (const lane of this.lanes) {
      lane.matching = new Int32Array(lane.spans.length + 1);
      lane.matchingBad = new Int32Array(lane.spans.length + 1);
      lane.spans.forEach((span, place) => {
        const isMatch = this.matches(span);
        lane.matching[place + 1] = lane.matching[place] + isMatch;
        lane.matchingBad[place + 1] = lane.matchingBad[place] + (isMatch && lane.bad[place + 1] - lane.bad[place]);
      });
    }
    for (const fold of this.folds.values()) stackUp(fold, this.spans, this.matches);
    return count;
  }

  // The next task that matches and has a span, in time, behind the selected one.
  nextMatch() {
    const { begin } = this.spans;
    let first = -1, next = -1;
    const from = this.selected < 0 ? null : this.executionsOf(this.selected)[0];
    const after = (a, b) => begin[a] > begin[b] || (begin[a] === begin[b] && a > b);
    for (let span = 0; span < this.tables.executions.length; span++) {
      if (!this.matches(span)) continue;
      if (first < 0 || after(first, span)) first = span;
      if (from !== null && from !== undefined && after(span, from) && (next < 0 || after(next, span))) next = span;
    }
    return next < 0 ? first : next;
  }

  // How busy the lanes were in each of some stretches of the whole time, and what went wrong there.
  activity(count) {
    if (this.known && this.known.busy.length === count) return this.known;
    const known = { busy: new Float64Array(count), bad: new Int32Array(count), count: new Int32Array(count) };
    const { begin, end } = this.bounds;
    const slots = this.lanes.filter((lane) => lane.group === "slots" && !lane.extra).length || 1;
    for (const lane of this.lanes) {
      let busyBefore = 0, badBefore = 0, before = 0;
      for (let column = 0; column < count; column++) {
        const limit = begin + ((column + 1) / count) * (end - begin);
        const place = firstAtLeast(lane.end, limit);
        let busy = lane.busy[place];
        if (place < lane.begin.length) busy += Math.max(0, limit - lane.begin[place]);
        if (lane.group === "slots" && !lane.extra) known.busy[column] += (busy - busyBefore) / ((end - begin) / count) / slots;
        known.bad[column] += lane.bad[place] - badBefore;
        known.count[column] += place - before;
        [busyBefore, badBefore, before] = [busy, lane.bad[place], place];
      }
    }
    this.known = known;
    return known;
  }

  // The view

  zoom(factor, at) {
    const { begin, end } = this.view;
    const whole = this.bounds.end - this.bounds.begin;
    const width = Math.min(whole * 1.1, Math.max(20, (end - begin) / factor));
    const share = (at - begin) / (end - begin);
    this.show(at - share * width, at + (1 - share) * width);
  }

  move(us) {
    this.show(this.view.begin + us, this.view.end + us);
  }

  // Show a stretch of time, or one of that length which does not leave the whole.
  show(begin, end) {
    const whole = this.bounds.end - this.bounds.begin;
    const low = this.bounds.begin - whole * 0.05, high = this.bounds.end + whole * 0.05;
    const width = Math.min(end - begin, high - low);
    const start = Math.min(Math.max(begin, low), high - width);
    this.view = { begin: start, end: start + width };
  }

  fit() {
    const { begin, end } = this.bounds;
    const margin = (end - begin) / 100;
    this.view = { begin: begin - margin, end: end + margin };
  }
}
