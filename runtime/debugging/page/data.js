// The journal's tables, as the page holds them: lines of JSON, gzipped, in base64.

async function readTables() {
  if (typeof DecompressionStream === "undefined") {
    throw new Error("This browser is too old for this page: it cannot unpack gzip.");
  }
  const holder = document.getElementById("data");
  const text = holder.textContent;
  holder.remove();
  const packed = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const unpacked = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const lines = (await new Response(unpacked).text()).split("\n").filter(Boolean);
  const { columns } = JSON.parse(lines.shift());
  const about = JSON.parse(lines.pop());
  const blocks = Object.fromEntries(Object.keys(columns).map((name) => [name, []]));
  for (const line of lines) {
    const [name, block] = JSON.parse(line);
    blocks[name].push(block);
  }
  const tables = { about };
  for (const [name, names] of Object.entries(columns)) tables[name] = joined(names, blocks[name]);
  return tables;
}

// One table, from its blocks: numbers as arrays of doubles, other things as they are.
function joined(names, blocks) {
  const length = blocks.reduce((sum, block) => sum + block[0].length, 0);
  const table = { length };
  names.forEach((marked, place) => {
    const plain = marked.startsWith("=");
    const column = plain ? new Array(length) : new Float64Array(length);
    let row = 0;
    for (const block of blocks) for (const value of block[place]) column[row++] = value;
    if (marked.startsWith("+")) for (row = 1; row < length; row++) column[row] += column[row - 1];
    table[marked.replace(/^[+=]/, "")] = column;
  });
  return table;
}

// A key that came again later has another number: from here on, it has its first. Gives the keys,
// and the phase of each before anything was said of it.
function unite(tables) {
  const first = new Map();
  const number = new Int32Array(tables.tasks.length);
  const keys = [], before = [];
  tables.tasks.key.forEach((key, task) => {
    if (!first.has(key)) {
      first.set(key, keys.length);
      keys.push(key);
      before.push(tables.texts.text[tables.tasks.before[task]]);
    }
    number[task] = first.get(key);
  });
  const renumber = (column) => {
    for (let row = 0; row < column.length; row++) {
      if (column[row] >= 0) column[row] = number[column[row]];
    }
  };
  renumber(tables.executions.task);
  renumber(tables.records.subject);
  renumber(tables.turns.task);
  renumber(tables.endings.task);
  renumber(tables.endings.because);
  tables.executions.inputs.forEach(renumber);
  tables.gathers.tasks.forEach(renumber);
  return [keys, before];
}

// Rows by what a column says of them: `rowsOf(task)` are the numbers of a task's rows, in order.
function indexBy(column, count) {
  const starts = new Int32Array(count + 1);
  for (const value of column) starts[value + 1]++;
  for (let place = 0; place < count; place++) starts[place + 1] += starts[place];
  const next = starts.slice();
  const rows = new Int32Array(column.length);
  for (let row = 0; row < column.length; row++) rows[next[column[row]]++] = row;
  return (value) => rows.subarray(starts[value], starts[value + 1]);
}

// The first place of an ascending array whose value is at least, or is above, a limit.
function firstAtLeast(values, limit, low = 0, high = values.length) {
  while (low < high) {
    const middle = (low + high) >> 1;
    if (values[middle] < limit) low = middle + 1;
    else high = middle;
  }
  return low;
}

// Text for people.

function duration(us) {
  if (us < 1000) return `${Math.round(us)} µs`;
  if (us < 1e6) return `${significant(us / 1e3)} ms`;
  if (us < 120e6) return `${significant(us / 1e6)} s`;
  const minutes = Math.floor(us / 60e6);
  const seconds = Math.floor(us / 1e6) % 60;
  if (minutes < 120) return `${minutes} min ${seconds} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

const significant = (number) => String(Number(number.toPrecision(3)));

function bytes(count) {
  const units = ["B", "kB", "MB", "GB", "TB", "PB"];
  let unit = 0;
  while (count >= 1000 && unit < units.length - 1) {
    count /= 1000;
    unit++;
  }
  return `${significant(count)} ${units[unit]}`;
}

const grouped = (number) => Math.round(number).toLocaleString("en").replaceAll(",", "\u202f");
const counted = (number, one, many = `${one}s`) => `${grouped(number)} ${number === 1 ? one : many}`;

// A time of the run, as the command line says it.
const seconds = (us) => `${(us / 1e6).toFixed(6)} s${us < 120e6 ? "" : ` (${clock(us, 1e5)})`}`;
