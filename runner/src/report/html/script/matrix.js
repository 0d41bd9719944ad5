// The matrix: which type was seen for each type of the MTRRs and of the PAT, for each VM configuration and kernel.

/** All pages of a side in a VM configuration, by setting: what was seen, in how many pages. */
function matrixOf(side, vm, target, cd) {
  const boxes = new Map();
  // Cells with the same set of rows are alike.
  const sets = new Map();
  for (let cell = 0; cell < COUNT; cell++) {
    if (VM[cell] === vm && side.rows[cell] > 0) sets.set(side.rows[cell], (sets.get(side.rows[cell]) ?? 0) + 1);
  }
  for (const [set, cells] of sets) {
    const numbers = DATA.sets[set];
    for (let n = 0; n < numbers.length; n += 2) {
      const row = ROWS[numbers[n]];
      if (row.target !== target || row.cd !== cd) continue;
      const key = `${row.mtrr}/${row.pat}`;
      let box = boxes.get(key);
      if (!box)
        boxes.set(
          key,
          (box = { mtrr: row.mtrr, pat: row.pat, pages: 0, answers: new Map(), departs: false, wrong: false }),
        );
      const pages = numbers[n + 1] * cells;
      box.pages += pages;
      const answer = seen(row);
      const before = box.answers.get(answer) ?? { pages: 0, row };
      box.answers.set(answer, { pages: before.pages + pages, row: before.row });
      box.departs ||= row.honoured === 1;
      box.wrong ||= row.agrees === 1;
    }
  }
  return boxes;
}

/** Values of pages over all sides: VM configurations, targets, states of CR0.CD. */
function matrixAxes() {
  const [vms, targets, cds] = [new Set(), new Set(), new Set()];
  for (const side of SIDES) {
    for (let cell = 0; cell < COUNT; cell++) {
      if (side.rows[cell] === 0) continue;
      vms.add(VM[cell]);
      const numbers = DATA.sets[side.rows[cell]];
      for (let n = 0; n < numbers.length; n += 2) {
        targets.add(ROWS[numbers[n]].target);
        cds.add(ROWS[numbers[n]].cd);
      }
    }
  }
  return {
    vms: [...vms],
    targets: [...targets].sort((a, b) => (b === "ram") - (a === "ram") || (a < b ? -1 : 1)),
    cds: [...cds].sort(),
  };
}

/** The most VM configurations that are shown at once. */
const MOST_VMS = 24;

function matrixView(parameters) {
  const { vms, targets, cds } = matrixAxes();
  if (vms.length === 0)
    return { title: "Matrix", content: [h("h1", null, "Matrix"), h("p", null, "No page was timed in these runs.")] };
  const target = parameters.get("target") ?? targets[0];
  const cd = Number(parameters.get("cd") ?? cds[0]);
  const vm = parameters.get("vm") ?? "";
  const only = parameters.get("kernel") ?? "";
  const go = (change) => {
    const next = new URLSearchParams({ target, cd, vm, kernel: only, ...change });
    location.hash = `#/matrix?${next}`;
  };
  const shown = vms.filter((one) => vm === "" || TEXTS[one] === vm);
  const sides = SIDES.filter((side) => only === "" || String(side.number) === only);
  return {
    title: "Matrix",
    content: [
      h("h1", null, "Matrix"),
      h(
        "p",
        { class: "lead" },
        "What a page was seen to be, for each type of the guest's MTRRs (down) and of its PAT (across).",
      ),
      h(
        "div",
        { class: "choices" },
        choice(
          "page",
          targets.map((one) => [one, one]),
          target,
          (value) => go({ target: value }),
        ),
        choice(
          "CR0.CD",
          cds.map((one) => [one, one]),
          cd,
          (value) => go({ cd: value }),
        ),
        choice("VM", [["", "all"], ...vms.map((one) => [TEXTS[one], TEXTS[one]])], vm, (value) => go({ vm: value })),
        SIDES.length > 1 &&
          choice(
            "kernel",
            [["", "all, side by side"], ...SIDES.map((side) => [side.number, side.name])],
            only,
            (value) => go({ kernel: value }),
          ),
      ),
      matrixLegend(),
      shown.slice(0, MOST_VMS).map((one) => vmSection(one, sides, target, cd)),
      shown.length > MOST_VMS && h("p", null, `${shown.length - MOST_VMS} more VM configurations: choose one above.`),
    ],
  };
}

function matrixLegend() {
  const types = MTRR_TYPES.map((type) =>
    h("li", null, h("span", { class: "box sample", style: { background: paint([type]) } }, type)),
  );
  return h(
    "ul",
    { class: "types" },
    types,
    h(
      "li",
      null,
      h("span", { class: "box sample departs", style: { background: paint(["WB"]) } }, "WB"),
      " other than the architecture has it",
    ),
    h(
      "li",
      null,
      h("span", { class: "box sample wrong", style: { background: paint(["UC"]) } }, "UC"),
      " other than the policy has it",
    ),
    h(
      "li",
      null,
      h("span", { class: "box sample long", style: { background: paint(["UC", "WB"]) } }, "UC/WB"),
      " either, the more frequent first",
    ),
    h("li", null, h("span", { class: "box sample empty" }, ""), " not tried"),
  );
}

function vmSection(vm, sides, target, cd) {
  const made = sides.map((side) => [side, matrixOf(side, vm, target, cd)]).filter(([, boxes]) => boxes.size > 0);
  if (made.length === 0) return null;
  // Undefined combinations of MTRRs, and pages without paging, are rows and columns of their own, where there are any.
  const extra = (of) => (made.some(([, boxes]) => [...boxes.values()].some((box) => box[of] === "-")) ? ["-"] : []);
  const [down, across] = [
    [...MTRR_TYPES, ...extra("mtrr")],
    [...PAT_TYPES, ...extra("pat")],
  ];
  return h(
    "section",
    { class: "vm" },
    h("h2", null, TEXTS[vm]),
    h("p", { class: "of" }, summary(DATA.vms, vm)),
    h(
      "div",
      { class: "matrices" },
      made.map(([side, boxes]) => matrixTable(side, vm, target, cd, boxes, down, across)),
    ),
  );
}

function matrixTable(side, vm, target, cd, boxes, down, across) {
  const all = [...boxes.values()];
  const departs = all.filter((box) => box.departs).length;
  const wrong = all.filter((box) => box.wrong).length;
  const word_ = (value) => (value === "-" ? "none" : value);
  return h(
    "figure",
    { class: "matrix" },
    h(
      "figcaption",
      null,
      h("strong", null, side.name),
      h(
        "small",
        null,
        `${departs} of ${all.length} other than the architecture${wrong > 0 ? `, ${wrong} other than the policy` : ""}`,
      ),
    ),
    h(
      "table",
      null,
      h(
        "thead",
        null,
        h(
          "tr",
          null,
          h("td", { class: "corner" }, "MTRR \\ PAT"),
          across.map((pat) => h("th", { scope: "col" }, word_(pat))),
        ),
      ),
      h(
        "tbody",
        null,
        down.map((mtrr) =>
          h(
            "tr",
            null,
            h("th", { scope: "row" }, word_(mtrr)),
            across.map((pat) => h("td", null, matrixBox(side, vm, target, cd, boxes.get(`${mtrr}/${pat}`)))),
          ),
        ),
      ),
    ),
  );
}

/** One combination: the type that most pages were seen to be, or both, with its marks; a link to its cells. */
function matrixBox(side, vm, target, cd, box) {
  if (!box) return h("span", { class: "box empty" });
  const answers = [...box.answers].sort((a, b) => b[1].pages - a[1].pages);
  const types = answers.flatMap(([answer]) => typesIn(answer).slice(0, 2));
  const label =
    answers.length === 1
      ? shortType(answers[0][0])
      : answers
          .slice(0, 2)
          .map(([answer]) => shortType(answer))
          .join("/");
  const said = answers
    .map(
      ([answer, { pages, row }]) =>
        `${answer} in ${counted(pages, "page")} (architecture ${row.architecture}, policy ${row.policy})`,
    )
    .join("; ");
  const marks = [box.departs && "departs", box.wrong && "wrong"].filter(Boolean);
  const words = [box.departs && "other than the architecture", box.wrong && "other than the policy"]
    .filter(Boolean)
    .join(", ");
  const leafOnly = answers.every(([answer]) => answer.startsWith("leaf"));
  return h(
    "a",
    {
      class: ["box", ...marks, label.length > 4 && "long", leafOnly && "leaf"].filter(Boolean).join(" "),
      style: { background: paint(types) },
      href: queryLink(
        `kernel=${word(side.name)} vm=${word(TEXTS[vm])} target=${target} cd=${cd} mtrr=${box.mtrr} pat=${box.pat}`,
      ),
      title: `MTRR ${box.mtrr}, PAT ${box.pat}: ${said}${words && `. ${words}`}`,
      "aria-label": `MTRR ${box.mtrr}, PAT ${box.pat}: ${said}${words && `; ${words}`}`,
    },
    h("span", null, label),
  );
}

/** As few letters as say it. */
function shortType(answer) {
  if (answer === "not seen") return "?";
  return typesIn(answer).join("|") || "?";
}
