// What the tables say of a task and of a span, in words; and the panel that tells a task's story.

const SAID = {
  success: "succeeded", failure: "failed", reschedule: "asked to be run elsewhere", cancelled: "cancelled",
  busy: "peer was busy", "network failure": "peer was lost", unreadable: "could not be read",
  over: "over", running: "had not ended",
};

// An element with its text and children; text is only ever text.
function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "colour") made.style.background = value;
    else if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value !== null) made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child !== null && child !== ""));
  return made;
}

function describe(model, span, theme) {
  const { spans, tables, texts } = model;
  const row = spans.row[span];
  const table = [tables.executions, tables.gathers, tables.waits][spans.kind[span]];
  const outcome = texts[spans.outcome[span]];
  const took = spans.end[span] - spans.begin[span];
  const begun = table.first[row] < 0 ? "begun before" : `#${(table.last[row] || model.tables.about.to) - table.first[row]}`;
  const lines = [];
  if (spans.kind[span] === EXECUTION) {
    lines.push(`on ${laneTitle(model.laneOf(span))}, attempt ${table.attempt[row]}`);
    if (table.seceded[row] >= 0) lines.push(`without a slot after ${duration(table.seceded[row])}`);
    if (table.ran[row] >= 0) lines.push(`the function ran ${duration(table.ran[row])}`);
    if (outcome === "success") lines.push(`${bytes(table.nbytes[row])} ${texts[table.type[row]]}`);
    else if (texts[table.type[row]]) lines.push(texts[table.type[row]]);
  } else if (spans.kind[span] === GATHER) {
    lines.push(`from ${model.laneOf(span).name}, gather ${table.attempt[row]}`);
    lines.push(outcome === "success" ? `${bytes(table.nbytes[row])} came, ${bytes(table.expected[row])} expected`
      : `${bytes(table.expected[row])} expected${texts[table.type[row]] ? `, ${texts[table.type[row]]}` : ""}`);
  }
  const ended = table.last[row] ? `#${table.last[row]}` : "not ended";
  return {
    title: model.labelOf(span, 4), colour: model.colourOf(span, theme), bad: BAD.has(outcome),
    said: `${SAID[outcome] || outcome} · ${duration(took)}`, lines, when: `${seconds(spans.begin[span])} · ${begun} → ${ended}`,
  };
}

class Panel {
  constructor(holder, model, go) {
    this.holder = holder;
    this.model = model;
    this.go = go;
  }

  close() {
    this.holder.hidden = true;
    this.holder.replaceChildren();
  }

  // A task: where it is and why, its attempts, its neighbours, its story.
  tell(task, theme) {
    const { model } = this;
    const key = model.keys[task];
    const ending = model.endings.get(task);
    const turns = model.turnsOf(task);
    const { texts, tables } = model;
    const phase = turns.length ? texts[tables.turns.phase[turns[turns.length - 1]]] : model.before[task];
    this.show(
      element("h2", {}, key),
      element("p", { class: "phase" }, `${phase} in the end`),
      ending === undefined ? null : this.why(ending),
      ...this.section("Attempts", model.spansOf(task).map((span) => this.attempt(span, theme))),
      ...this.section("Inputs", [this.links(model.inputsOf(task))]),
      ...this.section("Used by", [this.links(model.usersOf(task))]),
      ...this.section("Story", [this.story(task, turns)], "ol"),
    );
  }

  // The tasks that nothing can move on.
  listStuck(stuck) {
    const { tables } = this.model;
    const rest = tables.about.stuck - Math.min(stuck.length, 500);
    this.show(
      element("h2", {}, counted(tables.about.stuck, "stuck task")),
      element("p", { class: "phase" }, "They wait although nothing is in flight that could free them."),
      ...stuck.slice(0, 500).map((ending) => {
        const task = tables.endings.task[ending];
        return element("p", { class: "why bad" }, this.link(task),
          ` is ${this.model.texts[tables.endings.phase[ending]]}: ${tables.endings.reason[ending]}`);
      }),
      rest ? element("p", {}, `and ${grouped(rest)} more`) : null,
    );
  }

  show(...children) {
    const close = element("button", { class: "close", type: "button", "aria-label": "Close", title: "Close (Esc)",
                                      onclick: () => this.go(-1) }, "×");
    this.holder.replaceChildren(close, ...children.filter(Boolean));
    this.holder.hidden = false;
    this.holder.scrollTop = 0;
  }

  section(title, children) {
    const filled = children.filter(Boolean);
    return filled.length ? [element("h3", {}, title), ...filled] : [];
  }

  why(ending) {
    const { endings } = this.model.tables;
    const because = endings.because[ending];
    return element("p", { class: endings.stuck[ending] ? "why bad" : "why" },
      endings.stuck[ending] ? element("b", { class: "bad" }, "Stuck. ") : "", `${endings.reason[ending]}`,
      because < 0 ? "" : element("br"), because < 0 ? "" : this.link(because));
  }

  attempt(span, theme) {
    const { model } = this;
    const said = describe(model, span, theme);
    const isGather = model.spans.kind[span] === GATHER;
    return element("button", { class: "attempt", type: "button", title: "Zoom to it", onclick: () => this.go(null, span) },
      element("i", { colour: said.bad ? theme.failure : said.colour }),
      element("span", { class: said.bad ? "bad" : null }, isGather ? `gather: ${said.said}` : said.said),
      element("small", {}, seconds(model.spans.begin[span])),
      element("small", {}, said.lines.join(", ")));
  }

  link(task) {
    return element("button", { class: "go", type: "button", onclick: () => this.go(task) }, this.model.keys[task]);
  }

  links(tasks) {
    if (!tasks.length) return null;
    const shown = tasks.slice(0, 40).map((task) => this.link(task));
    if (tasks.length > 40) shown.push(element("small", {}, `and ${grouped(tasks.length - 40)} more`));
    return element("div", { class: "links" }, ...shown);
  }

  story(task, turns) {
    const { tables, texts, keys } = this.model;
    const { records } = tables;
    const items = [];
    let before = this.model.before[task];
    const most = 400;
    for (let place = 0; place < turns.length; place++) {
      const turn = turns[place];
      const phase = texts[tables.turns.phase[turn]];
      if (turns.length <= most || place < most / 2 || place >= turns.length - most / 2) {
        const row = tables.turns.record[turn];
        const subject = records.subject[row];
        const words = [texts[records.kind[row]], subject >= 0 && subject !== task ? keys[subject] : "", records.detail[row]];
        const answers = texts[tables.turns.answers[turn]];
        items.push(element("li", {},
          element("span", { class: "n" }, `#${records.n[row]}`),
          element("div", {},
            element("code", {}, words.filter(Boolean).join(" ")),
            phase !== before ? element("b", {}, `${before} → ${phase}`) : "",
            answers ? element("small", {}, answers) : "",
            element("time", {}, seconds(records.at[row])))));
      } else if (place === most / 2) {
        items.push(element("li", {}, element("span"), element("small", {}, `… ${grouped(turns.length - most)} more …`)));
      }
      before = phase;
    }
    return items.length ? element("ol", { class: "story" }, ...items) : null;
  }
}
