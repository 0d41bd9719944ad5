// The page of a cell: what was done, what each witness saw, what was expected and why, and how it went before.

function cellView(id, parameters) {
  const cell = findCell(id, parameters.get("suite"));
  if (cell < 0)
    return {
      title: "No such cell",
      content: [
        h("h1", null, "No such cell"),
        h("p", null, `This report has no cell ${id}.`),
        h("p", null, h("a", { href: queryLink(id.split("@")[0]) }, "Cells like it")),
      ],
    };
  const asked = SIDES[Number(parameters.get("side") ?? -1)];
  const side = asked && asked.verdict[cell] > 0 ? asked : mainSide(cell);
  const run = side.runs[side.run[cell]];
  const verdict = verdictOf(side, cell);
  const [name, vm] = cellId(cell).split("@");
  const detail = side.detail[cell] > 0 ? DATA.details[side.detail[cell] - 1] : null;
  const deviations = side.deviations[cell] ? deviationsOf(side, cell) : [];
  const points = [
    [side.points[cell], "decided"],
    [side.wrong[cell], "not as predicted"],
    [side.unpredicted[cell], "not predicted"],
    [side.departures[cell], "other than the architecture"],
  ];
  const explain = `kvm-memtype explain --run ${quoted(run.dir)} ${quoted(cellId(cell))}`;
  return {
    title: cellId(cell),
    content: [
      nextCells(cell),
      h("h1", { class: "cell" }, name, vm && h("span", { class: "at" }, `@${vm}`)),
      SIDES.length > 1 && sideTabs(cell, side),
      h(
        "section",
        { class: `verdict-box ${UNEXPECTED[side.verdict[cell]] ? "bad" : ""}` },
        verdictMark(verdict, true),
        h("p", { class: "why" }, TEXTS[side.reason[cell]] || MEANINGS[verdict]),
        deviations.map((one) =>
          h(
            "p",
            { class: "of" },
            "known deviation ",
            h("a", { href: queryLink(`deviation=${word(one)}`) }, one),
            ": ",
            whyDeviation(one),
          ),
        ),
      ),
      facts([
        ["does", summary(DATA.tests, TEST[cell])],
        ["VM", summary(DATA.vms, VM[cell])],
        ["policy", TEXTS[side.policy[cell]]],
        ["proof", TEXTS[side.proof[cell]]],
        [
          "points",
          points
            .filter(([n]) => n > 0)
            .map(([n, what]) => `${grouped(n)} ${what}`)
            .join(", "),
        ],
        ["took", duration(side.micros[cell])],
        [
          "run",
          h("a", { href: `#/about?side=${side.number}` }, `${run.dir}, suite ${run.suite}, ${time(run.started)}`),
        ],
      ]),
      h(
        "section",
        null,
        h("h2", null, "Run just this cell"),
        commands(side, cell).map(command),
        h("p", { class: "of" }, "All that was seen, in full:"),
        command(explain),
      ),
      rowsSection(side, cell),
      detail ? detailSections(detail) : h("p", { class: "note" }, leftOut(verdict)),
      historySection(cell, side),
      pastSection(cell),
    ],
    keys: { n: () => step(cell, 1), p: () => step(cell, -1), u: () => (location.hash = queryLink(FOUND?.query ?? "")) },
  };
}

/** Why there is no more of a cell. */
function leftOut(verdict) {
  if (["skip", "not-run"].includes(verdict)) return "No guest ran.";
  return KEPT_ALL
    ? "No guest ran, so there are no points, times or SPTEs."
    : "Points, times and SPTEs of cells that are as expected are left out of a report of this size; the command above shows them.";
}

/** Goes to the cell before or after this one in the list that was found last. */
function step(cell, by) {
  const cells = FOUND?.cells ?? null;
  const at = cells ? cells.indexOf(cell) : cell;
  const next = cells ? cells[at + by] : at + by;
  if (next !== undefined && next >= 0 && next < COUNT) location.hash = cellLink(next);
}

function nextCells(cell) {
  const cells = FOUND?.cells ?? null;
  const at = cells ? cells.indexOf(cell) : -1;
  const back = h("a", { href: queryLink(FOUND?.query ?? "") }, "← all that were found");
  if (!cells || at < 0) return h("p", { class: "back" }, h("a", { href: queryLink("") }, "← all cells"));
  const link = (n, text) => cells[n] !== undefined && h("a", { href: cellLink(cells[n]) }, text);
  return h(
    "p",
    { class: "back" },
    back,
    h("span", null, `${grouped(at + 1)} of ${grouped(cells.length)}`),
    link(at - 1, "previous"),
    link(at + 1, "next"),
  );
}

function sideTabs(cell, current) {
  return h(
    "nav",
    { class: "tabs", "aria-label": "Kernels" },
    SIDES.filter((side) => side.verdict[cell] > 0).map((side) =>
      h(
        "a",
        { href: cellLink(cell, side.number), "aria-current": side === current ? "page" : null },
        verdictMark(verdictOf(side, cell)),
        " ",
        side.name,
      ),
    ),
  );
}

/** What each timed page was set to, and what it was seen to be. */
function rowsSection(side, cell) {
  const rows = rowsOf(side, cell);
  if (rows.length === 0) return null;
  const known = ["–", "no", "yes"];
  const mark = (fact, bad) => h("td", { class: fact === 1 ? bad : null }, known[fact]);
  return h(
    "section",
    null,
    h("h2", null, "Memory types"),
    table(
      "plain",
      [
        ...["page", "MTRR", "PAT", "CD", "seen by times", "leaf SPTE", "architecture", "policy"],
        ...["as asked", "as the policy", "pages"],
      ],
      rows.map(([row, pages]) =>
        h(
          "tr",
          null,
          h("td", null, row.target),
          h("td", null, row.mtrr),
          h("td", null, row.pat),
          h("td", null, row.cd),
          h("td", null, typeChip(row.times)),
          h("td", null, typeChip(row.leaf)),
          h("td", null, typeChip(row.architecture)),
          h("td", null, typeChip(row.policy)),
          mark(row.honoured, "departs-text"),
          mark(row.agrees, "wrong-text"),
          h("td", null, grouped(pages)),
        ),
      ),
    ),
  );
}

const KINDS = [
  "Not as predicted",
  "Not predicted",
  "As KVM's policy predicts, but not as the architecture",
  "As predicted",
];

function detailSections(detail) {
  const { points, hidden, timed, timed_total, sptes, sptes_total, watched, said, end, lines } = detail;
  return [
    points.map(([total, few], kind) => (total > 0 ? pointsSection(KINDS[kind], kind, total, few) : null)),
    timed.length > 0 && timesSection(timed, timed_total),
    sptes.length > 0 && sptesSection(sptes, sptes_total),
    h(
      "section",
      null,
      h("h2", null, "Witnesses on the host's side"),
      h("p", null, TEXTS[watched] ? `Watched: ${TEXTS[watched]}.` : "None watched."),
      said.map(([title, ...texts]) =>
        h(
          "details",
          { open: TEXTS[title] !== "KVM's statistics at the end" },
          h("summary", null, TEXTS[title]),
          h("pre", null, texts.map((text) => TEXTS[text]).join("\n")),
        ),
      ),
    ),
    h(
      "p",
      { class: "of" },
      `The VM's end: ${TEXTS[end]}. The log has ${counted(lines, "line")}${hidden > 0 ? `; ${counted(hidden, "register")} as predicted when the vCPUs were made` : ""}.`,
    ),
  ];
}

function pointsSection(title, kind, total, few) {
  const shown = few.reduce((sum, [, count]) => sum + count, 0);
  const body = [
    few.map(([did, count, line, saw, expected, by, architecture, deviation]) => {
      const [policy, row, rule, source] = by > 0 ? DATA.by[by - 1].map((text) => TEXTS[text]) : [];
      return h(
        "article",
        { class: "point" },
        h("h3", null, TEXTS[did], count > 1 && ` (and ${grouped(count - 1)} more)`, h("small", null, ` line ${line}`)),
        facts([
          ["seen", TEXTS[saw]],
          ["expected", TEXTS[expected]],
          ["by", policy && `${policy}: ${row}: ${rule}`],
          ["source", source],
          ["architecture", TEXTS[architecture]],
          ["deviation", TEXTS[deviation]],
        ]),
      );
    }),
    total > shown && h("p", { class: "of" }, `and ${grouped(total - shown)} more: explain shows them`),
  ];
  const heading = h("h2", null, `${title}: ${counted(total, "point")}`);
  if (kind >= 2) return h("section", null, h("details", null, h("summary", null, heading), body));
  return h("section", { class: kind === 0 ? "bad" : null }, heading, body);
}

function sptesSection(sptes, total) {
  return h(
    "section",
    null,
    h("h2", null, `SPTEs: ${counted(total, "change")}`),
    table(
      "plain mono",
      ["line", "gfn", "level", "before", "now", ""],
      sptes.map(([line, gfn, level, old, now, zapped]) =>
        h(
          "tr",
          null,
          h("td", null, line),
          h("td", null, TEXTS[gfn]),
          h("td", null, level),
          h("td", null, TEXTS[old]),
          h("td", null, TEXTS[now]),
          h("td", null, zapped ? "zapped" : ""),
        ),
      ),
    ),
    total > sptes.length && h("p", { class: "of" }, `and ${grouped(total - sptes.length)} more: explain shows them`),
  );
}

/** How the cell went on each side: verdicts, and how long it took. */
function historySection(cell, current) {
  const sides = SIDES.filter((side) => side.verdict[cell] > 0);
  if (sides.length < 2) return null;
  const most = Math.max(...sides.map((side) => side.micros[cell]), 1);
  return h(
    "section",
    null,
    h("h2", null, "History"),
    table(
      "plain history",
      ["", "kernel", "run", "took", "reason"],
      sides.map((side) =>
        h(
          "tr",
          { class: side === current ? "current" : null },
          h("td", null, verdictMark(verdictOf(side, cell))),
          h("td", null, h("a", { href: cellLink(cell, side.number) }, side.name)),
          h("td", null, time(side.runs[side.run[cell]].started)),
          h(
            "td",
            null,
            h("span", { class: "took", style: { width: `${(side.micros[cell] * 60) / most}px` } }),
            duration(side.micros[cell]),
          ),
          h("td", null, TEXTS[side.reason[cell]]),
        ),
      ),
    ),
  );
}

// The plot of times.

/** A shape for each type, so that no dot is told by its colour alone; drawn around 0, 0. */
const SHAPES = {
  UC: () => svg("rect", { x: -5, y: -5, width: 10, height: 10 }),
  WC: () => svg("path", { d: "M0-6.5 6 5H-6Z" }),
  WT: () => svg("path", { d: "M0-7 7 0 0 7-7 0Z" }),
  WP: () => svg("path", { d: "M-6-5H6L0 6.5Z" }),
  WB: () => svg("circle", { r: 5.5 }),
  "": () => svg("path", { d: "M-5-5 5 5M5-5-5 5", class: "cross" }),
};

const PROBE_WORDS = {
  load: "a load again",
  drain: "a store, until it is done",
  stream: "stores to a whole line",
  reload: "a load after a store",
  gather: "non-temporal loads of a whole line",
  lfence: "LFENCE alone",
  mfence: "MFENCE alone",
  flush: "CLFLUSH",
  flushload: "a load after CLFLUSH",
  walk: "a read of a page table",
};

/** For each probe, the pages by how many ticks it took, with the pages by which times are read as lines. */
function timesSection(timed, total) {
  const pages = timed.map(([row, what, reference, ...samples]) => {
    const of = row > 0 ? ROWS[row - 1] : null;
    const times = new Map();
    for (let n = 0; n < samples.length; n += 3)
      times.set(DATA.probes[samples[n]], { median: samples[n + 1], spread: samples[n + 2] });
    return { row: of, what: TEXTS[what], reference: TEXTS[reference], times };
  });
  const probes = DATA.probes.filter((probe) => pages.some((page) => page.row && page.times.has(probe)));
  const types = [...new Set(pages.filter((page) => page.row).map((page) => dotType(page)))];
  return h(
    "section",
    null,
    h("h2", null, "Times"),
    h(
      "p",
      { class: "of" },
      "Ticks a round, on a logarithmic scale: each mark is a page, in the shape of the type that it was seen to be. Lines are the pages by which times are read: one that is WB, and one that the PAT makes UC.",
    ),
    h(
      "ul",
      { class: "types" },
      types.map((type) =>
        h(
          "li",
          null,
          svg(
            "svg",
            { viewBox: "-9 -9 18 18", class: `dot t-${type.toLowerCase()}`, width: 18, height: 18 },
            SHAPES[type](),
          ),
          type || "no single type",
        ),
      ),
    ),
    h(
      "div",
      { class: "plots" },
      probes.map((probe) => plot(probe, pages)),
    ),
    timed.length < total && h("p", { class: "of" }, `The first ${timed.length} of ${counted(total, "page")}.`),
  );
}

function dotType(page) {
  const types = typesIn(page.row.times);
  return types.length === 1 ? types[0] : "";
}

function plot(probe, pages) {
  const [width, height, margin] = [340, 86, 14];
  const shown = pages.filter((page) => page.times.has(probe));
  const medians = shown.map((page) => page.times.get(probe).median);
  const low = Math.log(Math.max(1, Math.min(...medians) * 0.8));
  const high = Math.log(Math.max(...medians, 2) * 1.25);
  const x = (ticks) => margin + ((Math.log(Math.max(1, ticks)) - low) / (high - low || 1)) * (width - 2 * margin);
  const dots = shown.filter((page) => page.row);
  const lines = shown
    .filter((page) => !page.row && page.reference !== "-")
    .slice(0, 2)
    .map((page) => {
      const at = x(page.times.get(probe).median);
      return svg(
        "g",
        { class: `reference t-${page.reference.toLowerCase()}` },
        svg("line", { x1: at, x2: at, y1: 16, y2: height - 18 }),
        svg("text", { x: at, y: 11, "text-anchor": "middle" }, page.reference),
      );
    });
  const marks = dots.map((page, n) => {
    const { median, spread } = page.times.get(probe);
    const y = 26 + ((n * 7) % 36);
    const type = dotType(page);
    return svg(
      "g",
      { class: `dot t-${type.toLowerCase()}` },
      svg(
        "title",
        null,
        `${page.what}: ${median} ticks, quartiles ${spread} apart; MTRR ${page.row.mtrr}, PAT ${page.row.pat}, seen ${page.row.times}`,
      ),
      spread > 0 &&
        svg("line", { class: "spread", x1: x(median - spread / 2), x2: x(median + spread / 2), y1: y, y2: y }),
      svg("g", { transform: `translate(${x(median)} ${y})` }, SHAPES[type]()),
    );
  });
  const least = Math.min(...medians);
  const most = Math.max(...medians);
  const said = `${probe}: ${counted(dots.length, "page")}, from ${least} to ${most} ticks`;
  return h(
    "figure",
    { class: "plot" },
    h("figcaption", null, h("strong", null, probe), h("small", null, PROBE_WORDS[probe] ?? "")),
    svg(
      "svg",
      { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": said },
      svg("line", { class: "axis", x1: margin, x2: width - margin, y1: height - 16, y2: height - 16 }),
      lines,
      marks,
      [...new Set([least, most])].map((ticks) =>
        svg(
          "text",
          { class: "tick", x: x(ticks), y: height - 3, "text-anchor": ticks === least ? "start" : "end" },
          grouped(ticks),
        ),
      ),
    ),
  );
}
