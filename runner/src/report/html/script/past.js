// What became of a cell in earlier runs, where the report was asked to say.

/** A table for each kind of host, with a row for runs one after the other that went alike, the newest first. */
function pastSection(cell) {
  const places = DATA.past[`${TEST[cell]}@${VM[cell]}`];
  if (!places) return null;
  return h(
    "section",
    { id: "past" },
    h("h2", null, "In all runs"),
    places.map(([place, hosts, streaks]) => [
      h("p", { class: "of" }, TEXTS[place], hosts > 0 && `; on ${TEXTS[hosts]}`),
      table(
        "plain history",
        ["", "runs", "from", "to", "kernel", "first in", "reason"],
        streaks.toReversed().map(pastRow),
      ),
    ]),
  );
}

function pastRow([verdict, runs, from, to, fromKernel, toKernel, first, reason]) {
  const kernels = fromKernel === toKernel ? TEXTS[toKernel] : `${TEXTS[fromKernel]} to ${TEXTS[toKernel]}`;
  return h(
    "tr",
    null,
    h("td", null, verdictMark(VERDICTS[verdict - 1], true)),
    h("td", null, grouped(runs)),
    h("td", null, time(TEXTS[from])),
    h("td", null, time(TEXTS[to])),
    h("td", null, kernels),
    h("td", null, TEXTS[first]),
    h("td", null, TEXTS[reason]),
  );
}
