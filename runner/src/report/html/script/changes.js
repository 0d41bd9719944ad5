// What changed from one side to another: verdicts by kind, as `kvm-memtype diff` has them, and pages that were seen
// otherwise.

/** Cells whose verdict changed, by kind, the worst first. */
function changedVerdicts(from, to) {
  const kinds = DATA.kinds.map((_, kind) => ({ kind, cells: [] }));
  for (let cell = 0; cell < COUNT; cell++) {
    const [was, is] = [from.verdict[cell], to.verdict[cell]];
    if (was > 0 && is > 0 && was !== is) kinds[DATA.changes[was - 1][is - 1]].cells.push(cell);
  }
  return kinds.filter(({ cells }) => cells.length > 0);
}

/** What pages of the same setting in the same VM configuration were seen to be: before and now, with the cells. */
function seenOtherwise(from, to) {
  const changes = new Map();
  const known = new Map();
  for (let cell = 0; cell < COUNT; cell++) {
    const [was, is] = [from.rows[cell], to.rows[cell]];
    if (was === is || was === 0 || is === 0) continue;
    const pair = `${was} ${is}`;
    let differences = known.get(pair);
    if (!differences) known.set(pair, (differences = compareSets(was, is)));
    for (const { setting, before, now } of differences) {
      const key = `${VM[cell]} ${setting.target} ${setting.cd} ${before} ${now}`;
      let change = changes.get(key);
      if (!change)
        changes.set(
          key,
          (change = {
            vm: TEXTS[VM[cell]],
            target: setting.target,
            cd: setting.cd,
            before,
            now,
            cells: new Set(),
            at: new Set(),
          }),
        );
      change.cells.add(cell);
      change.at.add(`${setting.mtrr} × ${setting.pat}`);
    }
  }
  return [...changes.values()].sort((a, b) => b.cells.size - a.cells.size || (a.vm < b.vm ? -1 : 1));
}

/** Settings that are in both sets of rows, with other answers. */
function compareSets(was, is) {
  const answers = (set) => {
    const all = new Map();
    for (let n = 0; n < DATA.sets[set].length; n += 2) {
      const row = ROWS[DATA.sets[set][n]];
      const key = `${row.target} ${row.cd} ${row.mtrr} ${row.pat}`;
      if (!all.has(key)) all.set(key, { setting: row, seen: new Set() });
      all.get(key).seen.add(seen(row));
    }
    return all;
  };
  const [before, now] = [answers(was), answers(is)];
  const differences = [];
  for (const [key, { setting, seen: old }] of before) {
    const young = now.get(key)?.seen;
    const [one, other] = [[...old].sort().join(", "), young ? [...young].sort().join(", ") : null];
    if (other !== null && one !== other) differences.push({ setting, before: one, now: other });
  }
  return differences;
}

/** The most cells that are named of a change. */
const MOST_CHANGED = 30;

function changesView(parameters) {
  if (SIDES.length < 2) {
    return {
      title: "Changes",
      content: [
        h("h1", null, "Changes"),
        h("p", null, "This report has one kernel. Name two or more runs, the older one first: "),
        command("kvm-memtype report --format html --output report.html BEFORE NOW"),
      ],
    };
  }
  const side = (name, other) => SIDES[Number(parameters.get(name) ?? other)] ?? SIDES[other];
  const [from, to] = [side("from", SIDES.length - 2), side("to", SIDES.length - 1)];
  const go = (change) =>
    (location.hash = `#/changes?${new URLSearchParams({ from: from.number, to: to.number, ...change })}`);
  const options = SIDES.map((one) => [one.number, one.name]);
  const both = count(from, (cell) => to.verdict[cell] > 0);
  const alone = [from, to].map((one, n) => [one, count(one, (cell) => [to, from][n].verdict[cell] === 0)]);
  const verdicts = changedVerdicts(from, to);
  const differences = seenOtherwise(from, to);
  return {
    title: "Changes",
    content: [
      h("h1", null, "Changes"),
      h(
        "div",
        { class: "choices" },
        choice("from", options, from.number, (value) => go({ from: value })),
        choice("to", options, to.number, (value) => go({ to: value })),
        h("button", { type: "button", onclick: () => go({ from: to.number, to: from.number }) }, "swap"),
      ),
      h(
        "p",
        { class: "lead" },
        `${counted(both, "cell")} on both sides`,
        alone.filter(([, n]) => n > 0).map(([one, n]) => `, ${grouped(n)} in ${one.name} alone`),
        ". Each side is judged by its own policy.",
      ),
      verdicts.length === 0
        ? h("p", null, "No verdict changed.")
        : verdicts.map(({ kind, cells }) => changeKind(kind, cells, from, to)),
      h(
        "section",
        null,
        h("h2", null, "Pages seen otherwise"),
        differences.length === 0
          ? h("p", null, "None: where the same was set, the same was seen.")
          : differencesTable(differences),
        h(
          "p",
          { class: "of" },
          "Leaf SPTEs, zaps and answers of registers are compared by ",
          h("code", null, `kvm-memtype diff ${quoted(from.named)} ${quoted(to.named)}`),
          ".",
        ),
      ),
    ],
  };
}

function changeKind(kind, cells, from, to) {
  const groups = new Map();
  for (const cell of cells) {
    const key = `${from.verdict[cell]} ${to.verdict[cell]} ${to.reason[cell]}`;
    if (!groups.has(key)) groups.set(key, []);
    groups.get(key).push(cell);
  }
  const entry = ([first, ...others]) => {
    const all = [first, ...others];
    return h(
      "li",
      null,
      h(
        "span",
        { class: "change" },
        verdictMark(verdictOf(from, first)),
        h("span", { class: "arrow" }, "→"),
        verdictMark(verdictOf(to, first)),
      ),
      h(
        "div",
        null,
        h(
          "p",
          null,
          verdictOf(from, first),
          " → ",
          verdictOf(to, first),
          TEXTS[to.reason[first]] && `: ${TEXTS[to.reason[first]]}`,
        ),
        h(
          "p",
          { class: "of" },
          all
            .slice(0, MOST_CHANGED)
            .map((cell, n) => [n > 0 && ", ", h("a", { href: cellLink(cell, to.number) }, cellId(cell))]),
          all.length > MOST_CHANGED && ` and ${grouped(all.length - MOST_CHANGED)} more`,
        ),
      ),
    );
  };
  return h(
    "section",
    { class: kind === 0 ? "bad" : null },
    h("h2", null, `${DATA.kinds[kind]}: ${counted(cells.length, "cell")}`),
    h("ul", { class: "groups" }, [...groups.values()].map(entry)),
  );
}

function differencesTable(differences) {
  const list = (values) =>
    values.length > 8 ? `${values.slice(0, 8).join(", ")} and ${values.length - 8} more` : values.join(", ");
  return table(
    "plain",
    ["VM", "page", "CD", "seen before", "seen now", "MTRR × PAT", "cells"],
    differences.map(({ vm, target, cd, before, now, cells, at }) =>
      h(
        "tr",
        null,
        h("td", null, vm),
        h("td", null, target),
        h("td", null, cd),
        h("td", null, typeChip(before)),
        h("td", null, typeChip(now)),
        h("td", null, list([...at])),
        h("td", null, h("a", { href: cellLink([...cells][0]) }, counted(cells.size, "cell"))),
      ),
    ),
  );
}
