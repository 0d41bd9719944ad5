// What was run, on what; what is in this file and what is not; the keys.

const KEYS = [
  ["/", "filter cells"],
  ["j k, ↓ ↑", "down and up a list"],
  ["Enter", "open the cell"],
  ["n p", "next and previous cell of those that were found"],
  ["u", "back to the list"],
  ["o m c l", "overview, matrix, changes, list of cells"],
  ["?", "this page"],
];

function aboutView(parameters) {
  const only = parameters.get("side");
  const sides = SIDES.filter((side) => only === null || String(side.number) === only);
  const kept = DATA.details.length;
  return {
    title: "About",
    content: [
      h("h1", null, only === null ? "About this report" : (sides[0]?.name ?? "No such kernel")),
      sides.map((side) =>
        h(
          "section",
          null,
          only === null && h("h2", null, side.name),
          side.runs.map((run) =>
            h(
              "details",
              { open: only !== null },
              h(
                "summary",
                null,
                `${run.suite}, ${time(run.started)}, ${counted(
                  run.counts.reduce((a, b) => a + b, 0),
                  "cell",
                )}`,
              ),
              facts([
                ["directory", run.dir],
                ["points", counted(run.points, "decided point")],
                ["in VMs", duration(run.micros)],
                ...run.about,
              ]),
            ),
          ),
        ),
      ),
      only !== null && h("p", null, h("a", { href: "#/about" }, "All runs, and about this report")),
      only === null && [
        h(
          "section",
          null,
          h("h2", null, "What is in this file"),
          h(
            "p",
            null,
            "All verdicts with their reasons, what each page that was timed was set to and seen to be, and times of cells. ",
            KEPT_ALL
              ? "Of each cell that ran there is a sample of its points, times and SPTEs: all kinds of points that are not as predicted, and the first few of the others. "
              : `Points, times and SPTEs are here of ${counted(kept, "cell")} that did not simply pass; the others were left out for their size. `,
            "All of a cell shows ",
            h("code", null, "kvm-memtype explain --all"),
            ". Observations stay in the run's directory: they are the truth, and verdicts are made from them.",
          ),
        ),
        h("section", null, h("h2", null, "Verdicts"), verdictLegend()),
        h(
          "section",
          null,
          h("h2", null, "Keys"),
          h(
            "dl",
            { class: "axes" },
            KEYS.map(([key, what]) => h("div", null, h("dt", null, h("kbd", null, key)), h("dd", null, what))),
          ),
        ),
      ],
    ],
  };
}
