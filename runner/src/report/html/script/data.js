// The data of the report, as report/html/data.rs writes it: texts once, and columns of their numbers.

const DATA = JSON.parse(document.getElementById("data").textContent);
document.getElementById("data").remove();
const KEPT_ALL = document.documentElement.dataset.kept === "all";

const TEXTS = DATA.texts;
const VERDICTS = DATA.verdicts;
/** By number of a verdict, from 1. */
const UNEXPECTED = [false, ...DATA.unexpected];

/** A column as an array of numbers, `length` long. */
function column(encoded, length) {
  const all = new Uint32Array(length);
  if (Array.isArray(encoded)) {
    all.set(encoded);
    return all;
  }
  let at = 0;
  for (let n = 0; n < encoded.runs.length; n += 2) {
    all.fill(encoded.runs[n], at, at + encoded.runs[n + 1]);
    at += encoded.runs[n + 1];
  }
  return all;
}

const COUNT = Array.isArray(DATA.test)
  ? DATA.test.length
  : DATA.test.runs.reduce((sum, n, at) => sum + (at % 2 ? n : 0), 0);
const SUITE = column(DATA.suite, COUNT);
const TEST = column(DATA.test, COUNT);
const VM = column(DATA.vm, COUNT);
const SIDES = DATA.sides.map((side, number) => {
  const { name, named, runs, ...columns } = side;
  const decoded = { name, named, runs, number };
  for (const [key, value] of Object.entries(columns)) decoded[key] = column(value, COUNT);
  return decoded;
});
const DEFAULT_VM = TEXTS.indexOf("default");

/** The id of a cell, as commands take it. */
function cellId(cell) {
  return VM[cell] === DEFAULT_VM ? TEXTS[TEST[cell]] : `${TEXTS[TEST[cell]]}@${TEXTS[VM[cell]]}`;
}

/** The page of a cell, on a side if one is named. */
function cellLink(cell, side) {
  const suite = SUITES.length > 1 ? `suite=${encodeURIComponent(TEXTS[SUITE[cell]])}&` : "";
  const at = side === undefined ? "" : `side=${side}`;
  const query = `${suite}${at}`.replace(/&$/, "");
  return `#/cell/${encodeURIComponent(cellId(cell)).replaceAll("%2F", "/").replaceAll("%40", "@")}${query && "?" + query}`;
}

/** The cell of that id, in that suite if one is named; -1 for none. */
function findCell(id, suite) {
  for (let cell = 0; cell < COUNT; cell++) {
    if (cellId(cell) === id && (!suite || TEXTS[SUITE[cell]] === suite)) return cell;
  }
  return -1;
}

/** Numbers of texts, each once, in the order in which they first stand in a column. */
function distinct(of) {
  return [...new Set(of)];
}

const SUITES = distinct(SUITE);

/** A row of pages that have setting and answers in common. */
const ROWS = DATA.rows.map(([target, mtrr, pat, cd, times, leaf, architecture, policy, honoured, agrees]) => ({
  target: TEXTS[target],
  mtrr: TEXTS[mtrr],
  pat: TEXTS[pat],
  cd,
  times: TEXTS[times],
  leaf: TEXTS[leaf],
  architecture: TEXTS[architecture],
  policy: TEXTS[policy],
  /** 0: not known, 1: no, 2: yes. */
  honoured,
  agrees,
}));

/** The rows of a cell on a side, each with its number of pages. */
function rowsOf(side, cell) {
  const set = DATA.sets[side.rows[cell]];
  const rows = [];
  for (let n = 0; n < set.length; n += 2) rows.push([ROWS[set[n]], set[n + 1]]);
  return rows;
}

/** What a page was seen to be: by times, and where they say nothing, its leaf. */
function seen(row) {
  return row.times !== "-" ? row.times : row.leaf !== "-" ? `leaf ${row.leaf}` : "not seen";
}

function deviationsOf(side, cell) {
  return DATA.sets[side.deviations[cell]].map((id) => TEXTS[id]);
}

/** Why a deviation is, in words. */
function whyDeviation(id) {
  const entry = Object.entries(DATA.deviations).find(([number]) => TEXTS[number] === id);
  return entry ? TEXTS[entry[1]] : "";
}

const summary = (table, number) => TEXTS[table[number] ?? 0];

/** The commands that run a cell again. */
function commands(side, cell) {
  const run = side.runs[side.run[cell]];
  const id = cellId(cell);
  const history = `${DATA.history}@`;
  if (id.startsWith(history)) return [`${run.replay}${id.slice(history.length)}.toml`];
  return run.again.map((again) => again + quoted(id));
}

/** A word as a shell takes it. */
function quoted(word) {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}

/**
 * The side that a cell is looked at from where none is named: the last that has it and is not as expected, or has it.
 */
function mainSide(cell) {
  const having = SIDES.filter((side) => side.verdict[cell] > 0);
  return having.findLast((side) => UNEXPECTED[side.verdict[cell]]) ?? having.at(-1);
}
