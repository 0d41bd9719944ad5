// A list of which only what is seen is there, so that 200,000 cells are as quick as twenty.

/** Rows that are made above and below those that are seen. */
const SPARE = 12;
/** The most rows of a list on paper. */
const MOST_ON_PAPER = 500;

/**
 * A list in the page's own scroll. `row(number)` makes an element of `count` ones. It has `update(count)`,
 * `select(number)`
 * and `stop()`.
 */
function virtualList(row, label) {
  const list = h("div", { class: "list", role: "list", "aria-label": label });
  let [count, selected, paper, due] = [0, -1, false, 0];

  function draw() {
    due = 0;
    // One row of the style's own height says what it is on this screen.
    const height = parseFloat(getComputedStyle(list).getPropertyValue("--row")) || 44;
    const top = list.getBoundingClientRect().top;
    const first = paper ? 0 : Math.max(0, Math.floor(-top / height) - SPARE);
    const last = paper
      ? Math.min(count, MOST_ON_PAPER)
      : Math.min(count, Math.ceil((innerHeight - top) / height) + SPARE);
    list.style.height = paper ? "auto" : `${count * height}px`;
    const rows = [];
    for (let n = first; n < last; n++) {
      const element = row(n);
      element.setAttribute("role", "listitem");
      element.setAttribute("aria-setsize", count);
      element.setAttribute("aria-posinset", n + 1);
      element.classList.toggle("selected", n === selected);
      element.style.top = paper ? "" : `${n * height}px`;
      rows.push(element);
    }
    if (paper && count > last) rows.push(h("p", null, `and ${grouped(count - last)} more`));
    list.replaceChildren(...rows);
  }

  const soon = () => {
    if (!due) due = requestAnimationFrame(draw);
  };
  const print = (on) => () => {
    paper = on;
    draw();
  };
  const events = [
    [window, "scroll", soon],
    [window, "resize", soon],
    [window, "beforeprint", print(true)],
    [window, "afterprint", print(false)],
  ];
  events.forEach(([on, name, what]) => on.addEventListener(name, what, { passive: true }));
  return {
    element: list,
    update(to) {
      [count, selected] = [to, -1];
      draw();
    },
    selected: () => selected,
    select(number) {
      selected = Math.max(0, Math.min(count - 1, number));
      const height = parseFloat(getComputedStyle(list).getPropertyValue("--row")) || 44;
      const top = list.getBoundingClientRect().top + selected * height;
      if (top < 140) scrollBy(0, top - 140);
      else if (top + height > innerHeight - 20) scrollBy(0, top + height - innerHeight + 20);
      draw();
    },
    stop() {
      events.forEach(([on, name, what]) => on.removeEventListener(name, what));
    },
  };
}

/** The cells that were found last, so that the page of one can go on to the next. */
let FOUND = null;

/** The list of cells, with the filter. */
function cellsView(parameters) {
  let query = parameters.get("q") ?? "";
  const input = h("input", {
    id: "filter",
    type: "search",
    value: query,
    placeholder: "mtrr=uc pat=wc verdict!=pass",
    autocomplete: "off",
    spellcheck: "false",
    "aria-label": "Filter",
    "aria-describedby": "found",
    list: "axes",
  });
  const found = h("p", { id: "found", role: "status" });
  const note = h("p", { class: "error", role: "alert", hidden: true });
  let cells = [];
  const list = virtualList((n) => cellRow(cells[n]), "Cells");

  function run() {
    const began = performance.now();
    const read = readQuery(query);
    note.hidden = !read.error;
    note.textContent = read.error ?? "";
    input.setAttribute("aria-invalid", String(Boolean(read.error)));
    if (read.error) return;
    cells = search(read.words);
    FOUND = { cells, query };
    list.update(cells.length);
    put(
      found,
      cells.length === COUNT ? counted(COUNT, "cell") : `${grouped(cells.length)} of ${counted(COUNT, "cell")}`,
    );
    performance.measure("filter", { start: began, end: performance.now() });
  }

  input.addEventListener("input", () => {
    query = input.value;
    history.replaceState(null, "", queryLink(query));
    run();
  });
  const quick = [
    ["not as expected", "is=unexpected"],
    ["known deviations", "verdict=xfail"],
    ["open", "verdict=inconclusive"],
    ["not as asked", "asked=no"],
    ["all", ""],
  ];
  const links = h(
    "p",
    { class: "quick" },
    quick.map(([name, text]) => h("a", { href: queryLink(text) }, name)),
  );
  const help = h(
    "details",
    { class: "help" },
    h("summary", null, "What a filter can say"),
    h(
      "p",
      null,
      "Words that all must hold. ",
      h("code", null, "verdict=fail,crash"),
      " is one of two, ",
      h("code", null, "reason~zap"),
      " looks anywhere, ",
      h("code", null, "vm=*dma*"),
      " leaves a part open, ",
      h("code", null, "time>1"),
      " compares, ",
      h("code", null, "!word"),
      " or ",
      h("code", null, "!="),
      " is not. " + "A word alone is looked for in ids and reasons. Words about a page must hold of the same page.",
    ),
    h(
      "dl",
      { class: "axes" },
      Object.entries(AXES).map(([name, { what }]) =>
        h("div", null, h("dt", null, h("code", null, name)), h("dd", null, what)),
      ),
    ),
  );
  const names =
    SIDES.length > 1 &&
    h(
      "p",
      { class: "columns", "aria-hidden": "true" },
      "Marks, from left: ",
      SIDES.map((side) => side.name).join(" · "),
    );
  return {
    title: "Cells",
    content: [
      h("div", { class: "sticky" }, h("h1", null, "Cells"), h("div", { class: "filter" }, input, found), note, links),
      h(
        "datalist",
        { id: "axes" },
        Object.keys(AXES).map((axis) => h("option", { value: `${axis}=` })),
      ),
      help,
      names,
      list.element,
    ],
    start: run,
    stop: list.stop,
    keys: {
      j: () => list.select(list.selected() + 1),
      k: () => list.select(list.selected() - 1),
      ArrowDown: () => list.select(list.selected() + 1),
      ArrowUp: () => list.select(list.selected() - 1),
      Enter: () => {
        if (cells[list.selected()] !== undefined) location.hash = cellLink(cells[list.selected()]);
      },
    },
  };
}

/** One cell in the list: verdicts of all sides, id, and the reason of the side that matters most. */
function cellRow(cell) {
  const side = mainSide(cell);
  const reason = TEXTS[side.reason[cell]] || summary(DATA.tests, TEST[cell]);
  const [id, vm] = cellId(cell).split("@");
  return h(
    "a",
    { class: "row", href: cellLink(cell) },
    h(
      "span",
      { class: "marks" },
      SIDES.map((one) => verdictMark(verdictOf(one, cell))),
    ),
    h("span", { class: "id" }, id, vm && h("span", { class: "at" }, `@${vm}`)),
    h("span", { class: "reason" }, reason),
    h("span", { class: "time" }, duration(side.micros[cell])),
  );
}
