// How verdicts and memory types look. Each has a mark or letters of its own: none is told by its colour alone.

/** The mark of each verdict. */
const MARKS = {
  pass: "✓",
  fail: "✗",
  xfail: "≈",
  xpass: "!",
  skip: "–",
  inconclusive: "?",
  error: "E",
  timeout: "T",
  crash: "C",
  "not-run": "·",
};

const MEANINGS = {
  pass: "every point is as the governing policy says",
  fail: "a point is not as the policy says, and nobody knows why",
  xfail: "some points are not, and each is a known deviation",
  xpass: "a known deviation did not show",
  skip: "it cannot be done here",
  inconclusive: "the policy says nothing about a point, or this host cannot tell",
  error: "the report cannot be believed, or host or harness broke",
  timeout: "the guest did not end",
  crash: "the guest or the VM died",
  "not-run": "the run was interrupted before",
};

/** The word of a verdict's number; nothing for none. */
function verdictOf(side, cell) {
  return VERDICTS[side.verdict[cell] - 1];
}

/** The verdict's mark in its colour, with its word for those who cannot see it, or beside it. */
function verdictMark(verdict, word) {
  if (!verdict) return h("span", { class: "mark none", title: "not in this run" }, word ? "not there" : "");
  const mark = h("span", { class: "glyph", "aria-hidden": "true" }, MARKS[verdict]);
  const text = h("span", { class: word ? null : "unseen" }, verdict);
  return h("span", { class: `mark v-${verdict}${word ? " wide" : ""}`, title: verdict }, mark, text);
}

/** The types of MTRRs and of the PAT, in the order of the matrix. */
const MTRR_TYPES = ["UC", "WC", "WT", "WP", "WB"];
const PAT_TYPES = ["UC", "UC-", "WC", "WT", "WP", "WB"];

/** The types in words such as `WB`, `WB or WT`, `leaf WB+IPAT`. */
function typesIn(text) {
  return text.match(/\b(UC|WC|WT|WP|WB)\b/g) ?? [];
}

/** The background of a box of these types: one colour, or stripes of several. */
function paint(types) {
  const colours = [...new Set(types)].map((type) => `var(--t-${type.toLowerCase()})`);
  if (colours.length === 0) return "var(--t-none)";
  if (colours.length === 1) return colours[0];
  const stop = (colour, n) => `${colour} ${(n * 100) / colours.length}% ${((n + 1) * 100) / colours.length}%`;
  return `linear-gradient(135deg, ${colours.map(stop).join(", ")})`;
}

/** A memory type, or words about one, in its colour. */
function typeChip(text) {
  if (text === "-" || text === "") return h("span", { class: "type-none" }, "–");
  return h("span", { class: "type", style: { background: paint(typesIn(text)) } }, text);
}

/** A legend of verdicts. */
function verdictLegend() {
  return h(
    "dl",
    { class: "legend" },
    VERDICTS.map((verdict) =>
      h("div", null, h("dt", null, verdictMark(verdict, true)), h("dd", null, MEANINGS[verdict])),
    ),
  );
}
