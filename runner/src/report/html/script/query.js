// The filter: words such as `mtrr=uc pat=wc verdict!=pass`.
//
// A cell is found if on one side all words about sides hold, and of one row of its pages all words about pages.

/** What a word may be about: `of` is what it is read from, and what it finds. */
const AXES = {
  cell: { of: "cell", what: "the cell's id" },
  family: { of: "cell", what: "its family, such as memtype" },
  test: { of: "cell", what: "its test, such as memtype/pat" },
  vm: { of: "cell", what: "its VM configuration" },
  suite: { of: "cell", what: "the suite" },
  kernel: { of: "side", what: "the kernel, as this report calls it" },
  verdict: { of: "side", what: "the verdict" },
  reason: { of: "side", what: "its reason" },
  policy: { of: "side", what: "the policy that governed" },
  deviation: { of: "side", what: "a known deviation that showed" },
  is: { of: "side", what: "unexpected, expected, or departing: other than the architecture" },
  points: { of: "number", what: "points that were decided" },
  wrong: { of: "number", what: "points that are not as predicted" },
  time: { of: "number", what: "time of the VM in seconds" },
  mtrr: { of: "row", what: "type of the MTRRs of a page that was timed" },
  pat: { of: "row", what: "its type in the PAT" },
  cd: { of: "row", what: "CR0.CD: 0 or 1" },
  target: { of: "row", what: "ram, read-only, host-mmio or page-table" },
  seen: { of: "row", what: "the type that was seen" },
  leaf: { of: "row", what: "its leaf SPTE" },
  architecture: { of: "row", what: "the type that the architecture gives" },
  asked: { of: "row", what: "yes where the guest got what it asked for, no where not" },
};

/** Reads a filter: `{words}`, or `{error}` for people. */
function readQuery(text) {
  const words = [];
  for (const [word] of text.matchAll(/(?:"[^"]*"|[^\s"])+/g)) {
    const parts = /^([\p{L}-]+)(!=|>=|<=|=|>|<|~)(.*)$/u.exec(word);
    const bare = (value) => value.replaceAll('"', "").toLowerCase();
    if (!parts) {
      const not = word.startsWith("!");
      words.push({ axis: "", not, values: [bare(not ? word.slice(1) : word)] });
      continue;
    }
    const axis = parts[1].toLowerCase();
    const known = AXES[axis];
    if (!known) return { error: `There is no \`${axis}\` to filter by${nearest(axis, Object.keys(AXES))}.` };
    const operator = parts[2];
    const values = bare(parts[3])
      .split(",")
      .filter((value) => value !== "");
    if (values.length === 0) return { error: `\`${word}\` names no value.` };
    if (/[<>]/.test(operator) && known.of !== "number") return { error: `\`${axis}\` is no number: say = or != or ~.` };
    if (known.of === "number" && values.some((value) => Number.isNaN(Number(value)))) {
      return { error: `\`${axis}\` is a number, and \`${values.join(",")}\` is none.` };
    }
    if (axis === "verdict" && operator !== "~") {
      const wrong = values.find((value) => !value.includes("*") && !VERDICTS.includes(value));
      if (wrong) return { error: `There is no verdict \`${wrong}\`${nearest(wrong, VERDICTS)}.` };
    }
    words.push({ axis, of: known.of, operator, not: operator === "!=", values });
  }
  return { words };
}

/** `, did you mean ...?`, if one of these is like `word`. */
function nearest(word, known) {
  const distance = (a, b) => {
    let row = Array.from({ length: b.length + 1 }, (_, n) => n);
    for (let i = 1; i <= a.length; i++) {
      const next = [i];
      for (let j = 1; j <= b.length; j++) {
        next[j] = Math.min(next[j - 1] + 1, row[j] + 1, row[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1));
      }
      row = next;
    }
    return row[b.length];
  };
  const best = known.map((name) => [distance(word, name), name]).sort((a, b) => a[0] - b[0])[0];
  return best && best[0] <= 2 ? `, did you mean \`${best[1]}\`?` : "";
}

/** Whether a text is one of the word's values; `*` stands for anything, and `~` looks anywhere. */
function textTest(word) {
  const escape = (value) => value.replace(/[.+?^${}()|[\]\\]/g, "\\$&").replaceAll("*", ".*");
  const whole = word.operator === "~" || word.axis === "" ? "(?:%)" : "^(?:%)$";
  const pattern = new RegExp(
    whole.replace("%", () => word.values.map(escape).join("|")),
    "i",
  );
  return (text) => pattern.test(text) !== word.not;
}

/** The same of the number of a text: each is looked at once. */
function numberTest(word, text = (number) => TEXTS[number]) {
  const test = textTest(word);
  const known = new Map();
  return (number) => {
    let found = known.get(number);
    if (found === undefined) known.set(number, (found = test(text(number))));
    return found;
  };
}

function compare(word) {
  const value = Number(word.values[0]);
  switch (word.operator) {
    case ">":
      return (number) => number > value;
    case "<":
      return (number) => number < value;
    case ">=":
      return (number) => number >= value;
    case "<=":
      return (number) => number <= value;
    default:
      return (number) => word.values.some((one) => Number(one) === number) !== word.not;
  }
}

function cellTest(word) {
  const family = (number) => TEXTS[number].split("/")[0];
  const tests = {
    family: () => {
      const test = numberTest(word, family);
      return (cell) => test(TEST[cell]);
    },
    test: () => {
      const test = numberTest(word);
      return (cell) => test(TEST[cell]);
    },
    vm: () => {
      const test = numberTest(word);
      return (cell) => test(VM[cell]);
    },
    suite: () => {
      const test = numberTest(word);
      return (cell) => test(SUITE[cell]);
    },
    cell: () => {
      const test = textTest(word);
      return (cell) => test(cellId(cell));
    },
  };
  return tests[word.axis]();
}

function sideTest(word) {
  if (word.of === "number") {
    const test = compare(word);
    if (word.axis === "time") return (side, cell) => test(side.micros[cell] / 1e6);
    return (side, cell) => test(side[word.axis][cell]);
  }
  const test = numberTest(word);
  switch (word.axis) {
    case "kernel": {
      const text = textTest(word);
      return (side) => text(side.name);
    }
    case "verdict": {
      const verdict = numberTest(word, (number) => VERDICTS[number - 1] ?? "");
      return (side, cell) => verdict(side.verdict[cell]);
    }
    case "reason":
      return (side, cell) => test(side.reason[cell]);
    case "policy":
      return (side, cell) => test(side.policy[cell]);
    case "deviation": {
      const any = textTest({ ...word, not: false });
      return (side, cell) => DATA.sets[side.deviations[cell]].some((id) => any(TEXTS[id])) !== word.not;
    }
    default: {
      const holds = {
        unexpected: (side, cell) => UNEXPECTED[side.verdict[cell]],
        expected: (side, cell) => !UNEXPECTED[side.verdict[cell]],
        departing: (side, cell) => side.departures[cell] > 0,
      };
      return (side, cell) => word.values.some((value) => holds[value]?.(side, cell)) !== word.not;
    }
  }
}

function rowTest(word) {
  const test = textTest(word);
  const known = ["unknown", "no", "yes"];
  const values = { cd: (row) => String(row.cd), seen, asked: (row) => known[row.honoured] };
  const value = values[word.axis] ?? ((row) => row[word.axis]);
  return (row) => test(value(row));
}

/** The cells that a filter finds, in order, as an array of their numbers. */
function search(words) {
  const cells = words.filter((word) => word.of === "cell").map(cellTest);
  const sides = words.filter((word) => word.of === "side" || word.of === "number").map(sideTest);
  const rows = words.filter((word) => word.of === "row").map(rowTest);
  // A bare word is looked for in the id and in the reason.
  const bare = words
    .filter((word) => word.axis === "")
    .map((word) => {
      const plain = { ...word, not: false };
      const [test, vm, reason] = [numberTest(plain), numberTest(plain), numberTest(plain)];
      const whole = textTest(plain);
      const inId = word.values[0].includes("@")
        ? (cell) => whole(cellId(cell))
        : (cell) => test(TEST[cell]) || vm(VM[cell]);
      return (side, cell) => (inId(cell) || reason(side.reason[cell])) !== word.not;
    });
  const rowFits = ROWS.map((row) => rows.every((test) => test(row)));
  const setFits = new Int8Array(DATA.sets.length).fill(-1);
  const hasRow = (set) => {
    if (setFits[set] < 0) {
      const numbers = DATA.sets[set];
      setFits[set] = 0;
      for (let n = 0; n < numbers.length; n += 2) if (rowFits[numbers[n]]) setFits[set] = 1;
    }
    return setFits[set] === 1;
  };
  const found = [];
  for (let cell = 0; cell < COUNT; cell++) {
    if (!cells.every((test) => test(cell))) continue;
    for (const side of SIDES) {
      if (side.verdict[cell] === 0) continue;
      if (rows.length > 0 && !hasRow(side.rows[cell])) continue;
      if (sides.every((test) => test(side, cell)) && bare.every((test) => test(side, cell))) {
        found.push(cell);
        break;
      }
    }
  }
  return found;
}

/** A value as a filter takes it. */
function word(value) {
  return /[\s"]/.test(value) ? `"${value.replaceAll('"', "")}"` : value;
}

/** The list of the cells that a filter finds. */
function queryLink(query) {
  return `#/cells?q=${encodeURIComponent(query)}`;
}
