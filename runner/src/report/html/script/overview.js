// The overview: kernels by suites, what is not as expected, what changed, what is known, and what could not be tried.

/** The most groups of a list. */
const MOST_GROUPS = 12;

function overviewView() {
  const unexpected = SIDES.map((side) => count(side, (cell) => UNEXPECTED[side.verdict[cell]]));
  const total = unexpected.reduce((sum, one) => sum + one, 0);
  const runs = SIDES.reduce((sum, side) => sum + side.runs.length, 0);
  const headline = total === 0 ? "All is as expected" : `${counted(total, "cell")} not as expected`;
  const lead = `${counted(SIDES.length, "kernel")}, ${counted(runs, "run")}, ${counted(COUNT, "cell")}`;
  return {
    title: "Overview",
    content: [
      h(
        "section",
        { class: `hero ${total === 0 ? "good" : "bad"}` },
        h("span", { class: "seal", "aria-hidden": "true" }, total === 0 ? "✓" : "✗"),
        h("div", null, h("h1", null, headline), h("p", null, lead)),
      ),
      h(
        "section",
        null,
        h("h2", null, "Kernels and suites"),
        platforms(),
        h("details", null, h("summary", null, "What the marks mean"), verdictLegend()),
      ),
      SIDES.length > 1 && changedSection(),
      groupSection("Not as expected", "bad", (side, cell) => UNEXPECTED[side.verdict[cell]]),
      deviationSection(),
      groupSection("Open", "", (side, cell) => verdictOf(side, cell) === "inconclusive"),
      groupSection("Not tried, and why", "", (side, cell) => verdictOf(side, cell) === "skip", true),
    ],
  };
}

function count(side, fits) {
  let sum = 0;
  for (let cell = 0; cell < COUNT; cell++) if (side.verdict[cell] > 0 && fits(cell)) sum += 1;
  return sum;
}

/** A table of kernels by suites, each box a bar of verdicts. */
function platforms() {
  const suites = [...new Set(SIDES.flatMap((side) => side.runs.map((run) => run.suite)))];
  const box = (side, suite) => side.runs.filter((run) => run.suite === suite).map((run) => verdictBar(side, run));
  const host = (side) => {
    const about = new Map(side.runs[0].about);
    return [about.get("KVM"), about.get("emulator")?.split(",")[0], about.get("CPU")].filter(Boolean).join(" · ");
  };
  return h(
    "div",
    { class: "wide" },
    h(
      "table",
      { class: "platforms" },
      h(
        "thead",
        null,
        h(
          "tr",
          null,
          h("th", { scope: "col" }, "kernel"),
          suites.map((suite) => h("th", { scope: "col" }, suite)),
        ),
      ),
      h(
        "tbody",
        null,
        SIDES.map((side) =>
          h(
            "tr",
            null,
            h(
              "th",
              { scope: "row" },
              h("a", { href: `#/about?side=${side.number}` }, side.name),
              h("small", null, host(side)),
            ),
            suites.map((suite) => h("td", { "data-suite": suite }, box(side, suite))),
          ),
        ),
      ),
    ),
  );
}

function verdictBar(side, run) {
  const counts = VERDICTS.map((verdict, n) => [verdict, run.counts[n]]).filter(([, number]) => number > 0);
  const query = (verdict) => queryLink(`kernel=${word(side.name)} suite=${word(run.suite)} verdict=${verdict}`);
  return h(
    "div",
    { class: "verdicts" },
    h(
      "div",
      { class: "bar", "aria-hidden": "true" },
      counts.map(([verdict, number]) => h("span", { class: `v-${verdict}`, style: { "flex-grow": number } })),
    ),
    h(
      "div",
      { class: "counts" },
      counts.map(([verdict, number]) =>
        h(
          "a",
          { href: query(verdict) },
          verdictMark(verdict),
          ` ${grouped(number)} `,
          h("span", { class: "word" }, verdict),
        ),
      ),
    ),
    h("small", null, time(run.started), run.micros > 0 && ` · ${duration(run.micros)} in VMs`),
  );
}

/** Cells by verdict and reason, the most first. */
function groupSection(title, kind, fits, closed) {
  const groups = new Map();
  for (const side of SIDES) {
    for (let cell = 0; cell < COUNT; cell++) {
      if (side.verdict[cell] === 0 || !fits(side, cell)) continue;
      const key = `${side.verdict[cell]} ${side.reason[cell]}`;
      let group = groups.get(key);
      if (!group)
        groups.set(
          key,
          (group = {
            verdict: verdictOf(side, cell),
            reason: TEXTS[side.reason[cell]],
            cells: new Set(),
            sides: new Set(),
          }),
        );
      group.cells.add(cell);
      group.sides.add(side);
    }
  }
  if (groups.size === 0) return null;
  const sorted = [...groups.values()].sort((a, b) => b.cells.size - a.cells.size);
  const items = sorted
    .slice(0, MOST_GROUPS)
    .map((group) =>
      h(
        "li",
        null,
        verdictMark(group.verdict),
        h(
          "div",
          null,
          h("p", null, group.reason || group.verdict),
          h(
            "p",
            { class: "of" },
            SIDES.length > 1 && `${[...group.sides].map((side) => side.name).join(", ")}: `,
            someCells([...group.cells], group),
          ),
        ),
      ),
    );
  const more = sorted.length > MOST_GROUPS && h("p", null, `and ${sorted.length - MOST_GROUPS} more reasons`);
  const list = [h("ul", { class: "groups" }, items), more];
  if (closed) return h("section", null, h("details", null, h("summary", null, h("h2", null, title)), list));
  return h("section", { class: kind }, h("h2", null, title), list);
}

/** The first few cells of a group, and a way to all of them. */
function someCells(cells, group) {
  const shown = cells
    .slice(0, 3)
    .map((cell, n) => [
      n > 0 && ", ",
      h(
        "a",
        { href: cellLink(cell, [...group.sides].findLast((side) => side.verdict[cell] > 0)?.number) },
        cellId(cell),
      ),
    ]);
  if (cells.length <= 3) return shown;
  const all = queryLink(`verdict=${group.verdict}${group.reason ? ` reason=${word(group.reason)}` : ""}`);
  return [shown, " and ", h("a", { href: all }, `${grouped(cells.length - 3)} more`)];
}

/** Known deviations, on how many cells each showed. */
function deviationSection() {
  const known = new Map();
  for (const side of SIDES) {
    for (let cell = 0; cell < COUNT; cell++) {
      for (const id of side.deviations[cell] ? deviationsOf(side, cell) : []) {
        if (!known.has(id))
          known.set(
            id,
            SIDES.map(() => 0),
          );
        known.get(id)[side.number] += 1;
      }
    }
  }
  if (known.size === 0) return null;
  return h(
    "section",
    null,
    h("h2", null, "Known deviations"),
    h(
      "ul",
      { class: "groups" },
      [...known].map(([id, counts]) =>
        h(
          "li",
          null,
          verdictMark("xfail"),
          h(
            "div",
            null,
            h("p", null, h("a", { href: queryLink(`deviation=${word(id)}`) }, id), ": ", whyDeviation(id)),
            h(
              "p",
              { class: "of" },
              SIDES.filter((side) => counts[side.number] > 0).map((side, n) => [
                n > 0 && ", ",
                SIDES.length > 1 && `${side.name}: `,
                counted(counts[side.number], "cell"),
              ]),
            ),
          ),
        ),
      ),
    ),
  );
}

/** What changed from the side before the last to the last one, in short. */
function changedSection() {
  const [from, to] = [SIDES.at(-2), SIDES.at(-1)];
  const changes = changedVerdicts(from, to);
  const link = `#/changes?from=${from.number}&to=${to.number}`;
  const differences = seenOtherwise(from, to);
  return h(
    "section",
    null,
    h("h2", null, `Changed from ${from.name} to ${to.name}`),
    changes.length === 0 && differences.length === 0
      ? h("p", null, "Nothing.")
      : h(
          "ul",
          { class: "changes" },
          changes.map(({ kind, cells }) =>
            h(
              "li",
              { class: kind === 0 ? "bad" : null },
              h("a", { href: link }, DATA.kinds[kind]),
              `: ${counted(cells.length, "cell")}`,
            ),
          ),
          differences.length > 0 &&
            h(
              "li",
              null,
              h("a", { href: `${link}` }, "Pages seen otherwise"),
              `: ${counted(new Set(differences.flatMap((one) => [...one.cells])).size, "cell")}`,
            ),
        ),
  );
}
